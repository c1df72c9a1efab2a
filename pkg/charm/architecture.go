package charm

import (
	"fmt"
	"slices"
	"strings"
)

// AllArchitectures is what Charmhub calls content that runs on every architecture.
const AllArchitectures = "all"

// debian are Debian's names for architectures, as far as Charmhub has them.
var debian = []string{"amd64", "arm64", "armhf", "i386", "ppc64el", "riscv64", "s390x"}

// foreign are the names that Go and the kernel give to the same.
var foreign = map[string]string{
	"386": "i386", "x86": "i386", "i686": "i386",
	"x86_64": "amd64", "aarch64": "arm64", "arm": "armhf", "armv7l": "armhf", "ppc64le": "ppc64el",
}

// Architecture returns Charmhub's name, which is Debian's, for an architecture that
// is given by its name in Go, in the kernel or in Debian. It returns false if
// Charmhub has none.
func Architecture(name string) (string, bool) {
	if known, ok := foreign[name]; ok {
		return known, true
	}
	return name, slices.Contains(debian, name)
}

// CheckArchitecture returns an error if name is neither one of Charmhub's names for
// architectures nor [AllArchitectures]. The error says what to write instead.
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
