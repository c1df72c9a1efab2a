package source

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
)

var hex64 = strings.Repeat("0123456789abcdef", 4)

func TestParse(t *testing.T) {
	digest := "sha256:" + hex64
	for text, want := range map[string]Reference{
		digest:                           {Kind: KindDigest, Hex: hex64},
		hex64:                            {Kind: KindDigest, Hex: hex64},
		"sha256:0123456789ab":            {Kind: KindDigest, Hex: "0123456789ab"},
		"0123456789abc":                  {Kind: KindDigest, Hex: "0123456789abc"},
		"busybox@" + digest:              {Kind: KindRegistry, Name: "docker.io/library/busybox@" + digest},
		"busybox:1@" + digest:            {Kind: KindRegistry, Name: "docker.io/library/busybox:1@" + digest},
		"ghcr.io/a/b.c@" + digest:        {Kind: KindRegistry, Name: "ghcr.io/a/b.c@" + digest},
		"localhost:5000/a@" + digest:     {Kind: KindRegistry, Name: "localhost:5000/a@" + digest},
		"docker://ghcr.io/a/b@" + digest: {Kind: KindRegistry, Name: "ghcr.io/a/b@" + digest},
		"docker-daemon:" + digest:        {Kind: KindEngine, Name: digest},
		"docker-daemon:0123456789ab":     {Kind: KindEngine, Name: "0123456789ab"},
		"docker-daemon:a/b@" + digest:    {Kind: KindEngine, Name: "docker.io/a/b@" + digest},
		"docker-archive:a.tar":           {Kind: KindDockerArchive, Path: "a.tar"},
		"docker-archive:/d/a.tar:b/c:1":  {Kind: KindDockerArchive, Path: "/d/a.tar", Select: "b/c:1"},
		"oci:folder":                     {Kind: KindOCILayout, Path: "folder"},
		"oci:folder:" + digest:           {Kind: KindOCILayout, Path: "folder", Select: digest},
		"oci-archive:my.rock:name":       {Kind: KindOCIArchive, Path: "my.rock", Select: "name"},
		"my.rock":                        {Kind: KindPath, Path: "my.rock"},
		"out/my.rock":                    {Kind: KindPath, Path: "out/my.rock"},
		"./image":                        {Kind: KindPath, Path: "./image"},
		"*.rock":                         {Kind: KindPath, Path: "*.rock"},
		"out/*":                          {Kind: KindPath, Path: "out/*"},
		"out/my-?":                       {Kind: KindPath, Path: "out/my-?"},
		"../image":                       {Kind: KindPath, Path: "../image"},
		"/github/workspace/image:1":      {Kind: KindPath, Path: "/github/workspace/image:1"},
	} {
		want.Text = text
		got, err := Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseComplains(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "give a digest",
		"Upper@sha256:" + hex64:                  "is not an image|lowercase",
		"sha256:0123":                            "is not a digest|has 4 of 64 digits",
		"sha256:" + hex64[:63]:                   "is not a digest|has 63 of 64 digits",
		hex64[:41]:                               "is not a digest|has 41 of 64 digits",
		"sha256:" + hex64 + "0":                  "is not a digest|has 65 digits instead of 64",
		"sha256:" + hex64[:63] + "g":             "is not a digest|has a 'g' in it|docker image inspect",
		"sha256:" + hex64[:63] + "A":             "is not a digest|lower case",
		"sha256:":                                "is not a digest|has 0 of 64 digits",
		"busybox":                                "write busybox:latest@sha256:…",
		"me/busybox:1":                           "write me/busybox:1@sha256:…",
		"docker.io/me/busybox:1":                 "write docker.io/me/busybox:1@sha256:…",
		"ghcr.io/a/b:1.0":                        "write ghcr.io/a/b:1.0@sha256:…",
		"docker://ghcr.io/a/b":                   "write ghcr.io/a/b:latest@sha256:…",
		"docker-daemon:a:1":                      "write a:1@sha256:…",
		"docker-daemon:" + hex64 + "0":           "is not a digest|has 65 digits",
		"ghcr.io/a@sha256:" + hex64[:63]:         "the digest of|has 63 of 64 digits",
		"ghcr.io/a:1@sha256:" + hex64[:63] + "g": "has a 'g' in it",
		"docker:ghcr.io/a/b":                     "lacks the slashes after docker:",
		"docker-archive:":                        "names no file",
		"oci::name":                              "names no file",
		"busybox@sha256:" + hex64[:12]:           "the digest of|has 12 of 64 digits",
		"busybox@sha512:" + hex64 + hex64:        "begins with sha512:, and images have sha256 digests",
		"ubuntu:22.04@md5:" + hex64[:32]:         "begins with md5:, and images have sha256 digests",
		"line\nbreak@sha256:" + hex64:            "is not an image",
	} {
		_, err := Parse(text)
		if err == nil {
			t.Errorf("Parse(%q) is accepted, want %q", text, want)
			continue
		}
		imagetest.WantError(t, err, want)
	}
}

func TestParseTagError(t *testing.T) {
	_, err := Parse("docker://ghcr.io/a/b:1.0")
	var tag *TagError
	if !errors.As(err, &tag) {
		t.Fatalf("%v is no TagError", err)
	}
	if diff := cmp.Diff(TagError{Text: "docker://ghcr.io/a/b:1.0", Name: "ghcr.io/a/b:1.0"}, *tag); diff != "" {
		t.Error(diff)
	}
}

func TestParseDigest(t *testing.T) {
	for text, complete := range map[string]bool{"sha256:" + hex64: true, hex64: true, hex64[:40]: false,
		hex64[:12]: false} {
		ref, err := ParseDigest(text)
		if err != nil {
			t.Errorf("ParseDigest(%q): %v", text, err)
		}
		hash, ok := ref.Digest()
		if ok != complete || ok && hash.String() != "sha256:"+hex64 {
			t.Errorf("Digest() of %q: %s, %t", text, hash, ok)
		}
	}
	for _, text := range []string{"", hex64[:11], "latest", "busybox:latest", "./file", "md5:" + hex64,
		strings.ToUpper(hex64)} {
		if _, err := ParseDigest(text); err == nil {
			t.Errorf("ParseDigest(%q) is accepted", text)
		}
	}
	if hash, ok := (Reference{Kind: KindRegistry, Name: "docker.io/a/b:1@sha256:" + hex64}).Digest(); !ok ||
		hash.Hex != hex64 {
		t.Errorf("Digest() of a named image: %s, %t", hash, ok)
	}
	engine := Reference{Kind: KindEngine, Hex: hex64}
	if _, ok := engine.Digest(); ok {
		t.Error("a name in the engine passes for a digest")
	}
}

// nothing reports that no path exists.
func nothing(string) bool { return false }

// TestParseLineOfPaths: what exists tells paths from what is around them.
func TestParseLineOfPaths(t *testing.T) {
	digest := "sha256:" + hex64
	there := []string{"a.rock", "b.rock", "./dir", "dir", "my dir/c.rock", "both.rock a.rock", "my dir", "x:y.tar",
		"ghcr.io", "a b:c", "plain"}
	exists := func(path string) bool { return slices.Contains(there, path) }
	for line, want := range map[string][]Reference{
		"a.rock b.rock": {{Kind: KindPath, Text: "a.rock", Path: "a.rock"},
			{Kind: KindPath, Text: "b.rock", Path: "b.rock"}},
		"a.rock  b.rock ./dir": {{Kind: KindPath, Text: "a.rock", Path: "a.rock"},
			{Kind: KindPath, Text: "b.rock", Path: "b.rock"}, {Kind: KindPath, Text: "./dir", Path: "./dir"}},
		"both.rock a.rock":           {{Kind: KindPath, Path: "both.rock a.rock"}},
		"a.rock missing.rock":        {{Kind: KindPath, Path: "a.rock missing.rock"}},
		"my dir/c.rock":              {{Kind: KindPath, Path: "my dir/c.rock"}},
		"my dir":                     {{Kind: KindPath, Path: "my dir"}},
		"my dir:tag":                 {{Kind: KindPath, Path: "my dir", Select: "tag"}},
		"a b:c:tag":                  {{Kind: KindPath, Path: "a b:c", Select: "tag"}},
		"./dir:tag":                  {{Kind: KindPath, Path: "./dir", Select: "tag"}},
		"./dir:a/b:1":                {{Kind: KindPath, Path: "./dir", Select: "a/b:1"}},
		"./dir:" + digest:            {{Kind: KindPath, Path: "./dir", Select: digest}},
		"./dir@" + digest:            {{Kind: KindPath, Path: "./dir", Select: digest}},
		"./missing:tag":              {{Kind: KindPath, Path: "./missing:tag"}},
		"a.rock:tag":                 {{Kind: KindPath, Path: "a.rock", Select: "tag"}},
		"a.rock:" + digest:           {{Kind: KindPath, Path: "a.rock", Select: digest}},
		"x:y.tar":                    {{Kind: KindPath, Path: "x:y.tar"}},
		"oci:dir@" + digest:          {{Kind: KindOCILayout, Path: "dir", Select: digest}},
		"oci:dir:" + digest:          {{Kind: KindOCILayout, Path: "dir", Select: digest}},
		"oci:my dir:tag":             {{Kind: KindOCILayout, Path: "my dir", Select: "tag"}},
		"oci:my dir":                 {{Kind: KindOCILayout, Path: "my dir"}},
		"oci:dir:with blank:tag":     {{Kind: KindOCILayout, Path: "dir", Select: "with blank:tag"}},
		"oci:missing@" + digest:      {{Kind: KindOCILayout, Path: "missing", Select: digest}},
		"oci-archive:x:y.tar:tag":    {{Kind: KindOCIArchive, Path: "x:y.tar", Select: "tag"}},
		"docker-archive:a.rock:b:1":  {{Kind: KindDockerArchive, Path: "a.rock", Select: "b:1"}},
		"docker-archive:missing:b:1": {{Kind: KindDockerArchive, Path: "missing", Select: "b:1"}},
		// A folder doesn't stand in for an image in a registry.
		"ghcr.io/a/b@" + digest:   {{Kind: KindRegistry, Name: "ghcr.io/a/b@" + digest}},
		"ghcr.io:443/a@" + digest: {{Kind: KindRegistry, Name: "ghcr.io:443/a@" + digest}},
		"a.rock@" + digest:        {{Kind: KindRegistry, Name: "docker.io/library/a.rock@" + digest}},
	} {
		got, _, err := ParseLine(line, exists)
		for i := range want {
			if want[i].Text == "" {
				want[i].Text = line
			}
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("ParseLine(%q): %v %s", line, err, diff)
		}
	}
	for line, want := range map[string]string{
		"a.rock b.rock platform=linux/amd64": "names 2 files and one platform; give each a line of its own",
		"plain:tag":                          "has no digest",
	} {
		_, _, err := ParseLine(line, exists)
		imagetest.WantError(t, err, want)
	}
}

// What a tag may be called locally, and in a registry.
func TestNamesOfTags(t *testing.T) {
	for text, want := range map[string]TagError{
		"my-image:1":              {Name: "docker.io/library/my-image:1", Local: "my-image:1", Hostless: true},
		"my-image":                {Name: "docker.io/library/my-image:latest", Local: "my-image", Hostless: true},
		"me/my-image:1":           {Name: "docker.io/me/my-image:1", Local: "me/my-image:1", Hostless: true},
		"docker.io/me/my-image:1": {Name: "docker.io/me/my-image:1", Local: "docker.io/me/my-image:1"},
		"ghcr.io/a:1":             {Name: "ghcr.io/a:1", Local: "ghcr.io/a:1"},
		"localhost:5000/a":        {Name: "localhost:5000/a:latest", Local: "localhost:5000/a"},
		"docker://my-image:1":     {Name: "docker.io/library/my-image:1", Hostless: true},
		"docker-daemon:a:1":       {Name: "docker.io/library/a:1", Local: "a:1", Hostless: true},
	} {
		want.Text = text
		_, err := Parse(text)
		got, ok := errors.AsType[*TagError](err)
		if !ok {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if *got != want {
			t.Errorf("%s: got %+v, want %+v", text, *got, want)
		}
	}
}

// FuzzParseLine: a path that comes out of a line exists, or no part of it does.
func FuzzParseLine(f *testing.F) {
	f.Add("a.rock b.rock platform=linux/amd64", "a.rock")
	f.Add("oci:a b:c@sha256:"+hex64, "a b")
	f.Add("./dir:sha256:"+hex64, "./dir")
	f.Fuzz(func(t *testing.T, line, there string) {
		refs, _, err := ParseLine(line, func(path string) bool { return path == there })
		var tag *TagError
		if err != nil && len(refs) > 0 && !errors.As(err, &tag) || err == nil && len(refs) == 0 {
			t.Errorf("%q gives %+v with the error %v", line, refs, err)
		}
		for _, ref := range refs {
			if ref.Kind >= KindDockerArchive && (ref.Path == "" || !strings.Contains(line, ref.Path)) {
				t.Errorf("%q names the path %q", line, ref.Path)
			}
		}
	})
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + hex64
	for text, want := range map[string][]string{
		"user:secret@ghcr.io/a/b" + digest:                            {"user:secret", "secret"},
		"user:secret@ghcr.io/a/b:1.0":                                 {"user:secret", "secret"},
		"user:secret@ghcr.io/a/b.rock":                                {"user:secret", "secret"},
		"user:secret@busybox" + digest:                                {"user:secret", "secret"},
		"https://user:secret@ghcr.io/a/b" + digest:                    {"user:secret", "secret"},
		"docker://user:secret@localhost:5000/b" + digest:              {"user:secret", "secret"},
		"docker-daemon:user:secret@ghcr.io/a/b" + digest:              {"user:secret", "secret"},
		"user:sec@ret@ghcr.io/a/b" + digest + " platform=linux/arm64": {"user:sec@ret", "sec@ret"},
		"user:sec/ret@ghcr.io/a/b" + digest:                           {"user:sec/ret", "sec/ret"},
		"user:sec%40ret@ghcr.io/a/b" + digest:                         {"user:sec%40ret", "sec%40ret", "sec@ret"},
		"https://ghp_token@ghcr.io/a/b" + digest:                      {"ghp_token"},
		"ghcr.io/a/b" + digest:                                        nil,
		"localhost:5000/a/b:1" + digest:                               nil,
		"localhost:5000/a/b@latest":                                   nil,
		"ghcr.io/a/b@sha256:0123":                                     nil,
		"busybox:1@" + hex64:                                          nil,
		"busybox@latest":                                              nil,
		"ubuntu:22.04@md5:" + hex64[:32]:                              nil,
		"./user:secret@host/my.rock":                                  nil,
		"/user:secret@host/my.rock":                                   nil,
		"oci-archive:a:b@c/my.rock":                                   nil,
		"folder@1/my.rock":                                            nil,
		"my@file.rock":                                                nil,
		"":                                                            nil,
	} {
		got := Credentials(text)
		for _, secret := range want {
			if !slices.Contains(got, secret) {
				t.Errorf("Credentials(%q) is %q, without %q", text, got, secret)
			}
		}
		if want == nil {
			if got != nil {
				t.Errorf("Credentials(%q) is %q", text, got)
			}
			continue
		}
		_, _, err := ParseLine(text, nothing)
		imagetest.WantError(t, err, `***@|source-username and source-password`)
		for _, secret := range want {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error has the secret %q: %v", secret, err)
			}
		}
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"busybox@sha256:" + hex64:          "docker.io",
		"index.docker.io/a/b:1":            "docker.io",
		"docker://GHCR.io/a/b:1":           "ghcr.io",
		"localhost:5000/a@sha256:" + hex64: "localhost:5000",
		"docker-daemon:ghcr.io/a/b:1":      "",
		"sha256:" + hex64:                  "",
		"./my.rock":                        "",
		"Not an image":                     "",
	} {
		ref, _ := Parse(text)
		if got := ref.Registry(); got != want {
			t.Errorf("the registry of %q is %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"ghcr.io": "ghcr.io", "GHCR.io": "ghcr.io", "docker.io": "docker.io", "index.docker.io": "docker.io",
		"localhost": "localhost", "localhost:5000": "localhost:5000",
		"": "", "ghcr": "", "ghcr.io/my-org": "", "https://ghcr.io": "", "user@ghcr.io": "", "ghcr.io/": "",
	} {
		got, err := ParseRegistry(text)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("ParseRegistry(%q) is %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestParseLine(t *testing.T) {
	for line, want := range map[string]*v1.Platform{
		"a.rock":                                   nil,
		"a.rock platform=linux/arm64":              {OS: "linux", Architecture: "arm64"},
		"a.rock  platform=linux/arm/v7":            {OS: "linux", Architecture: "arm", Variant: "v7"},
		"a.rock platform=windows/amd64:10.0.14393": {OS: "windows", Architecture: "amd64", OSVersion: "10.0.14393"},
	} {
		refs, got, err := ParseLine(line, nothing)
		if err != nil || len(refs) != 1 || refs[0].Path != "a.rock" {
			t.Errorf("ParseLine(%q): %+v, %v", line, refs, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseLine(%q): %s", line, diff)
		}
	}
	for _, platform := range []string{"", "linux", "/amd64", "linux/", "linux/arm/v7/x", "linux/amd64:1:2",
		"linux/amd64/"} {
		_, _, err := ParseLine("a.rock platform="+platform, nothing)
		imagetest.WantError(t, err, "write os/arch[/variant][:osversion]")
	}
	if _, _, err := ParseLine("busybox platform=linux/arm64", nothing); err == nil {
		t.Error("a tag is accepted in a line with a platform")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"sha256:" + hex64, "busybox:1@sha256:" + hex64, "oci-archive:a.rock:b", "./a",
		"a.rock platform=linux/arm64"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		refs, _, err := ParseLine(text, nothing)
		if err != nil {
			return
		}
		ref := refs[0]
		_, complete := ref.Digest()
		switch ref.Kind {
		case KindDigest:
			if len(ref.Hex) < 12 || complete != (len(ref.Hex) == 64) {
				t.Errorf("%q is the digest %+v", text, ref)
			}
		case KindRegistry, KindEngine:
			if len(hexOf(ref.Name)) < 12 {
				t.Errorf("%q has no digest: %+v", text, ref)
			}
		default:
			if ref.Path == "" {
				t.Errorf("%q has no path: %+v", text, ref)
			}
		}
	})
}
