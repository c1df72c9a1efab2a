package charm

import (
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"my-charm": true, "3scale-k8s": true, "x": true, strings.Repeat("x", 40): true,
		"": false, "My_Charm": false, "12-34": false, "-x": false, "x-": false, "x--y": false, "../x": false, strings.Repeat("x", 41): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("charm %q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{
		"my-image": true, "My_image.2": true, strings.Repeat("x", 255): true,
		"": false, "..": false, "a/b": false, "x --y": false, strings.Repeat("x", 256): false,
	} {
		if err := CheckResourceName(name); (err == nil) != ok {
			t.Errorf("resource %q: %v", name, err)
		}
	}
}

func TestArchitectures(t *testing.T) {
	for name, want := range map[string]string{
		"386": "i386", "amd64": "amd64", "arm": "armhf", "arm64": "arm64", "ppc64le": "ppc64el", "riscv64": "riscv64",
		"s390x": "s390x", "aarch64": "arm64", "x86_64": "amd64", "armhf": "armhf",
	} {
		if got, ok := Architecture(name); got != want || !ok {
			t.Errorf("%s is %q (%t), want %q", name, got, ok, want)
		}
		if err := CheckArchitecture(want); err != nil {
			t.Error(err)
		}
		if err := CheckArchitecture(name); name != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "all", "vax", "AMD64"} {
		if got, ok := Architecture(name); ok {
			t.Errorf("%q is %q", name, got)
		}
	}
	if err := CheckArchitecture("all"); err != nil {
		t.Error(err)
	}
	if err := CheckArchitecture("vax"); err == nil || !strings.Contains(err.Error(), "choose from all, amd64") {
		t.Error(err)
	}
}

func TestBases(t *testing.T) {
	bases := []Base{{}, {"ubuntu", "22.04", "amd64"}, {"ubuntu", "22.04", "arm64"}, {"ubuntu", "24.04", "amd64"}}
	if !slices.IsSortedFunc(bases, Base.Compare) {
		t.Error("not in order")
	}
	if bases[1].String() != "ubuntu 22.04 (amd64)" || bases[0].String() != "any base" {
		t.Errorf("%s, %s", bases[0], bases[1])
	}
}
