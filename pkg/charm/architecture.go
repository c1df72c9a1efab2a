package charm

import (
	"fmt"
	"slices"
	"strings"
)

// AllArchitectures is what Charmhub calls content that runs on every architecture.
const AllArchitectures = "all"

// debian lists Debian's names for the architectures that Charmhub has.
var debian = []string{"amd64", "arm64", "armhf", "i386", "ppc64el", "riscv64", "s390x"}

// PlatformArchitectures lists the architectures that Charmhub has, by the names that platforms of images have for them
// (Go's).
var PlatformArchitectures = []string{"386", "amd64", "arm", "arm64", "ppc64le", "riscv64", "s390x"}

// foreign maps the names of Go and the kernel to those of Debian.
var foreign = map[string]string{
	"386": "i386", "x86": "i386", "i686": "i386",
	"x86_64": "amd64", "aarch64": "arm64", "arm": "armhf", "armv7l": "armhf", "ppc64le": "ppc64el",
}

// Architecture returns Charmhub's (Debian's) name for an architecture. It takes the name in Go, in the kernel or in
// Debian, and returns false if Charmhub doesn't know it.
func Architecture(name string) (string, bool) {
	if known, ok := foreign[name]; ok {
		return known, true
	}
	return name, slices.Contains(debian, name)
}

// CheckArchitecture returns an error if name is neither one of Charmhub's names for architectures nor
// [AllArchitectures]. The error says what to write instead.
func CheckArchitecture(name string) error {
	known, ok := Architecture(name)
	switch {
	case ok && known == name, name == AllArchitectures:
		return nil
	case ok:
		return fmt.Errorf("%q is unknown to Charmhub; write %s, Charmhub's name for that architecture", name, known)
	default:
		return fmt.Errorf("%q is unknown to Charmhub; choose from %s, %s", name, AllArchitectures, strings.Join(debian, ", "))
	}
}
