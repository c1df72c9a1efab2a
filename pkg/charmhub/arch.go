package charmhub

// debianArch maps GOARCH to Debian's names, which are Charmhub's.
var debianArch = map[string]string{
	"386":     "i386",
	"amd64":   "amd64",
	"arm":     "armhf",
	"arm64":   "arm64",
	"ppc64le": "ppc64el",
	"riscv64": "riscv64",
	"s390x":   "s390x",
}

// DebianArch returns Charmhub's name of an image's architecture, and false if
// Charmhub has none. It is the same for every variant of an architecture.
func DebianArch(goarch string) (string, bool) {
	name, ok := debianArch[goarch]
	return name, ok
}
