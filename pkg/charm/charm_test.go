package charm

import (
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"my-charm": true, "3scale-k8s": true, "x": true, strings.Repeat("x", 40): true,
		"": false, "My_Charm": false, "12-34": false, "-x": false, "x-": false, "x--y": false, "../x": false,
		strings.Repeat("x", 41): false,
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

// TestPlatformArchitectures: images can be for each architecture that Charmhub has, and for no other.
func TestPlatformArchitectures(t *testing.T) {
	t.Parallel()
	var names []string
	for _, platform := range PlatformArchitectures {
		name, ok := Architecture(platform)
		if !ok {
			t.Errorf("Charmhub has no %s", platform)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if !slices.Equal(names, debian) {
		t.Errorf("images can be for %q, Charmhub has %q", names, debian)
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

func TestBaseFilter(t *testing.T) {
	amd, arm := Base{"ubuntu", "22.04", "amd64"}, Base{"ubuntu", "22.04", "arm64"}
	other, noble := Base{"almalinux", "22.04", "amd64"}, Base{"ubuntu", "24.04", "all"}
	for text, want := range map[string][]Base{
		"22.04":              {amd, arm, other},
		"ubuntu@22.04":       {amd, arm},
		"ubuntu@22.04:arm64": {arm},
		"22.04:amd64":        {amd, other},
		"24.04:all":          {noble},
		"24.04:amd64":        nil,
		"noble":              nil,
	} {
		filter, err := ParseBaseFilter(text)
		if err != nil || filter.String() != text {
			t.Errorf("%s is %s, %v", text, filter, err)
		}
		var got []Base
		for _, base := range []Base{{}, amd, arm, other, noble} {
			if filter.Matches(base) {
				got = append(got, base)
			}
			if !(BaseFilter{}).Matches(base) {
				t.Errorf("no filter leaves out %s", base)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s matches %v, want %v", text, got, want)
		}
	}
	if got := amd.Platform(); got != "ubuntu@22.04:amd64" {
		t.Errorf("%s is written %s", amd, got)
	}
	const form = " is no base; write its channel, or name@channel, or either with :architecture, for example 24.04 or " +
		"ubuntu@22.04:arm64"
	for text, want := range map[string]string{
		"": form, "@22.04": form, "ubuntu@": form, "ubuntu@22.04:": form, ":arm64": form, "a@b@c": form, "22.04:a:b": form,
		"ubuntu/22.04": form,
		"22.04:x86_64": `"x86_64" is unknown to Charmhub; write amd64`,
		"ubuntu:22.04": `"22.04" is unknown to Charmhub; choose from`,
	} {
		if _, err := ParseBaseFilter(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseBaseFilter(f *testing.F) {
	for _, text := range []string{"24.04", "ubuntu@22.04:arm64", "a@b:all", "@:", "x:y:z"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := ParseBaseFilter(text)
		if err != nil {
			return
		}
		again, err := ParseBaseFilter(filter.String())
		if filter.String() != text || err != nil || again != filter || filter.Matches(Base{}) {
			t.Errorf("%q is %+v, then %+v, %v", text, filter, again, err)
		}
	})
}
