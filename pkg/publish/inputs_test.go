package publish

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// good are inputs without a flaw.
var good = env{
	"INPUT_CHARM":       "my-charm",
	"INPUT_RESOURCE":    "my-image",
	"INPUT_DIGEST":      someDigest,
	"INPUT_STORE-TOKEN": aToken,
}

var (
	goodFile     = good.With(env{"INPUT_DIGEST": "", "INPUT_FILEPATH": "out/file.tgz"})
	goodMetadata = env{"INPUT_METADATA": "charmcraft.yaml", "INPUT_STORE-TOKEN": aToken}
)

// read reads inputs where no tag can be looked up.
func read(tb testing.TB, r *action.Runner) (Inputs, error) {
	tb.Helper()
	return ReadInputs(tb.Context(), r, Lookup{
		Registry: func(context.Context, source.Login, string) (v1.Hash, error) {
			return v1.Hash{}, errors.New("no registry")
		},
		Engine: noEngine,
	})
}

// noEngine is a look-up in a container engine that fails.
func noEngine(context.Context, string) (v1.Hash, error) {
	return v1.Hash{}, errors.New("no engine")
}

// parsed parses a URL and fails the test if it is invalid.
func parsed(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestInputsOfADigest(t *testing.T) {
	r, _ := newRunner(good)
	got, err := read(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if got.Credentials == nil {
		t.Error("no credentials")
	}
	got.Credentials = nil
	want := Inputs{
		Charm: "my-charm", Resource: "my-image",
		Images: []Part{{Reference: source.Reference{Kind: source.KindDigest, Text: someDigest, Hex: someDigest[7:]}}},
		Endpoints: inputs.Endpoints{
			Store:   parsed(t, "https://api.charmhub.io"),
			Storage: parsed(t, "https://storage.snapcraftcontent.com"),
			SSO:     parsed(t, "https://login.ubuntu.com"),
		},
		Options: Options{Compression: pack.Gzip},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInputsInFull(t *testing.T) {
	r, out := newRunner(env{
		"GITHUB_ACTIONS": "true",
		"INPUT_CHARM":    " 3scale-k8s\n", "INPUT_RESOURCE": "My_image.2",
		"INPUT_IMAGE":    "ghcr.io/one@" + someDigest + "\r\n./a.rock platform=linux/arm64\n",
		"INPUT_PLATFORM": "linux/arm/v7", "INPUT_DRY-RUN": "True", "INPUT_LOCATIONS-RECORD": "false",
		"INPUT_SOURCE-REGISTRY": "ghcr.io", "INPUT_SOURCE-USERNAME": "me", "INPUT_SOURCE-PASSWORD": "open sesame",
		"CHARMCRAFT_AUTH":          aToken[:20] + "\n" + aToken[20:] + "\n",
		"CHARMCRAFT_STORE_API_URL": "https://ignored.example", "INPUT_STORE-URL": "http://127.0.0.1:8080/",
		"CHARMCRAFT_UPLOAD_URL":    "http://[::1]:1/",
		"CHARMCRAFT_REGISTRY_URL":  "http://localhost:5000",
		"CHARMCRAFT_STORE_SSO_URL": "https://login.example/base/",
	})
	got, err := read(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if got.Credentials == nil {
		t.Error("no credentials")
	}
	got.Credentials = nil
	want := Inputs{
		Charm: "3scale-k8s", Resource: "My_image.2",
		Images: []Part{
			{Reference: source.Reference{Kind: source.KindRegistry, Text: "ghcr.io/one@" + someDigest,
				Name: "ghcr.io/one@" + someDigest}},
			{
				Reference: source.Reference{Kind: source.KindPath, Text: "./a.rock", Path: "./a.rock"},
				Platform:  &v1.Platform{OS: "linux", Architecture: "arm64"},
			},
		},
		Platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"},
		Options:  Options{Compression: pack.Gzip, DryRun: true, NoRecord: true},
		Login:    source.Login{Registry: "ghcr.io", Username: "me", Password: "open sesame"},
		Endpoints: inputs.Endpoints{
			Store:    parsed(t, "http://127.0.0.1:8080"),
			Storage:  parsed(t, "http://[::1]:1"),
			Registry: parsed(t, "http://localhost:5000"),
			SSO:      parsed(t, "https://login.example/base"),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if want := "::add-mask::" + aToken[:20] + "\n::add-mask::" + aToken[20:] +
		"\n::add-mask::open sesame\n"; !strings.HasPrefix(out.String(), want) {
		t.Errorf("printed %q, want first %q", out, want)
	}
}

func TestArchitectures(t *testing.T) {
	for given, want := range map[string][]string{
		"":                       nil,
		"all":                    {"all"},
		"arm64, amd64 ,amd64":    {"amd64", "arm64"},
		"riscv64\ns390x ppc64el": {"ppc64el", "riscv64", "s390x"},
	} {
		r, _ := newRunner(goodFile.With(env{"INPUT_ARCHITECTURES": given}))
		got, err := read(t, r)
		if err != nil {
			t.Errorf("%q: %v", given, err)
		}
		if diff := cmp.Diff(want, got.Architectures); diff != "" {
			t.Errorf("%q: %s", given, diff)
		}
	}
}

// TestDefaultsOfActionYAML shows that what the runner fills in by itself is no contradiction to an image.
func TestDefaultsOfActionYAML(t *testing.T) {
	r, _ := newRunner(good.With(env{"INPUT_ARCHITECTURES": "all", "INPUT_DRY-RUN": "false"}))
	got, err := read(t, r)
	if err != nil || got.Architectures != nil || got.DryRun {
		t.Errorf("got architectures %q, dry-run %t, error %v", got.Architectures, got.DryRun, err)
	}
}

func TestDigestsTaken(t *testing.T) {
	for _, digest := range []string{someDigest, someDigest[7:], "0123456789ab", someDigest[:20]} {
		r, _ := newRunner(good.With(env{"INPUT_DIGEST": digest}))
		got, err := read(t, r)
		if err != nil || len(got.Images) != 1 || !strings.HasSuffix(digest, got.Images[0].Hex) {
			t.Errorf("%s: got %v, error %v", digest, got.Images, err)
		}
	}
}

// TestPathWithBlanks: blanks that belong to the path of a file hide no missing source.
func TestPathWithBlanks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "two  blanks.rock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _ := newRunner(good.With(env{"INPUT_DIGEST": "", "INPUT_IMAGE": path + " platform=linux/arm64"}))
	got, err := read(t, r)
	if err != nil || len(got.Images) != 1 || got.Images[0].Path != path {
		t.Errorf("got %v, error %v", got.Images, err)
	}
	r, _ = newRunner(good.With(env{"INPUT_DIGEST": "", "INPUT_IMAGE": path + " "}))
	_, err = read(t, r)
	wantError(t, err, "input image: two blanks or one at the end of ")
}

// TestComplaints changes one thing about good inputs at a time.
func TestComplaints(t *testing.T) {
	for _, tt := range []struct {
		name   string
		inputs env
		change env
		want   []string // parts of the one complaint
	}{
		{"no charm", good, env{"INPUT_CHARM": " "}, []string{"input charm: missing", "charm: my-charm"}},
		{"upper case", good, env{"INPUT_CHARM": "My_Charm"}, []string{`input charm: "My_Charm" is invalid`, "lower-case"}},
		{"no letter", good, env{"INPUT_CHARM": "12-34"}, []string{"at least one letter"}},
		{"hyphen first", good, env{"INPUT_CHARM": "-x"}, []string{"input charm"}},
		{"hyphen last", good, env{"INPUT_CHARM": "x-"}, []string{"input charm"}},
		{"two hyphens", good, env{"INPUT_CHARM": "x--y"}, []string{"single hyphens"}},
		{"long charm", good, env{"INPUT_CHARM": strings.Repeat("x", 41)}, []string{"input charm", "40 characters at most"}},
		{"long resource", good, env{"INPUT_RESOURCE": strings.Repeat("x", 256)},
			[]string{"input resource", "255 characters at most"}},
		{"path as charm", good, env{"INPUT_CHARM": "../x"}, []string{"input charm"}},
		{"no resource", good, env{"INPUT_RESOURCE": ""}, []string{"input resource: missing", "resource: my-image"}},
		{"path as resource", good, env{"INPUT_RESOURCE": "a/b"}, []string{`input resource: "a/b" is invalid`}},
		{"dots as resource", good, env{"INPUT_RESOURCE": ".."}, []string{"input resource"}},

		{"no source", good, env{"INPUT_DIGEST": ""}, []string{"inputs digest, image, filepath, metadata: none is given"}},
		{"empty lines of images", good, env{"INPUT_DIGEST": "", "INPUT_IMAGE": "\nx@" + someDigest},
			[]string{"input image: line 1 is empty"}},
		{"empty line of architectures", goodFile, env{"INPUT_ARCHITECTURES": "amd64\n\narm64"},
			[]string{"input architectures: line 2 is empty"}},
		{"empty architecture", goodFile, env{"INPUT_ARCHITECTURES": "amd64,"},
			[]string{"input architectures: entry 2 is empty"}},
		{"two sources", good, env{"INPUT_FILEPATH": "x"}, []string{"inputs digest, filepath: given together"}},
		{"a blank after an image", good, env{"INPUT_DIGEST": "", "INPUT_IMAGE": "./a.rock "},
			[]string{`input image: two blanks or one at the end of "./a.rock "; a source may be missing there ` +
				"(an expression whose step or output doesn't exist is empty); give it, or leave out the blank"}},
		{"a blank before an image", good, env{"INPUT_DIGEST": "", "INPUT_IMAGE": "x@" + someDigest + "\n ./a.rock"},
			[]string{`input image: a blank at the beginning of " ./a.rock"; a source may be missing there `}},
		{"two blanks before a platform", good, env{"INPUT_DIGEST": "", "INPUT_IMAGE": "./a.rock  platform=linux/arm64"},
			[]string{`input image: two blanks or one at the end of "./a.rock  platform=linux/arm64"; `}},
		{"unknown architecture of an image", good, env{"INPUT_DIGEST": "", "INPUT_IMAGE": "./a.rock platform=linux/amd46"},
			[]string{`input image: "linux/amd46" is for no architecture that Charmhub knows; write one of linux/386, ` +
				"linux/amd64, linux/arm, linux/arm64, linux/ppc64le, "}},
		{"Charmhub's name in a platform", good, env{"INPUT_DIGEST": "", "INPUT_IMAGE": "./a.rock platform=linux/ppc64el"},
			[]string{`input image: "linux/ppc64el" is for no architecture`}},
		{"two images", good, env{"INPUT_IMAGE": "x@" + someDigest}, []string{"inputs digest, image: given together"}},
		{"metadata and image", good, env{"INPUT_METADATA": "charmcraft.yaml"},
			[]string{"inputs digest, metadata: given together"}},
		{"metadata and resource", goodMetadata, env{"INPUT_RESOURCE": "r"}, []string{"leave out resource and platform"}},
		{"three sources", good, env{"INPUT_FILEPATH": "x", "INPUT_IMAGE": "y@" + someDigest},
			[]string{"inputs digest, image, filepath: given together"}},

		{"tag", good, env{"INPUT_DIGEST": "my-app:1.2"}, []string{`"my-app:1.2"`, "tag", "${{ steps.build.outputs.imageid }}",
			"docker images --digests", "docker inspect --format '{{.Id}}'"}},
		{"name", good, env{"INPUT_DIGEST": "ubuntu"}, []string{"tag"}},
		{"repository digest", good, env{"INPUT_DIGEST": "ghcr.io/x@" + someDigest}, []string{`leave out "ghcr.io/x@"`,
			"input image"}},
		{"too short", good, env{"INPUT_DIGEST": "0123456789a"}, []string{"has 11 of 64 digits", "first 12 to 40 digits"}},
		{"too long", good, env{"INPUT_DIGEST": someDigest + "0"}, []string{"has 65 digits instead of 64"}},
		{"one digit lost", good, env{"INPUT_DIGEST": someDigest[:len(someDigest)-1]}, []string{"has 63 of 64 digits"}},
		{"no digit", good, env{"INPUT_DIGEST": someDigest[:len(someDigest)-1] + "g"}, []string{"has a 'g' in it"}},
		{"no digit, without sha256", good, env{"INPUT_DIGEST": "0" + someDigest[8:len(someDigest)-1] + "o"},
			[]string{"has a 'o' in it"}},
		{"tag of digits", good, env{"INPUT_DIGEST": "cafe:123"}, []string{"looks like a name or a tag"}},
		{"name of digits", good, env{"INPUT_DIGEST": "cafe"}, []string{"looks like a name or a tag"}},
		{"upper-case digits", good, env{"INPUT_DIGEST": strings.ToUpper(someDigest[7:])}, []string{"lower case"}},
		{"other hash", good, env{"INPUT_DIGEST": "sha512:00"}, []string{"write sha256:"}},

		{"platform of a file", goodFile, env{"INPUT_PLATFORM": "linux/amd64"},
			[]string{"input platform: given with filepath, but for images only"}},
		{"half a platform", good, env{"INPUT_PLATFORM": "arm64"}, []string{`input platform: "arm64" is no platform`,
			"linux/arm64"}},
		{"four parts", good, env{"INPUT_PLATFORM": "a/b/c/d"}, []string{"input platform"}},

		{"OS version without digits", good, env{"INPUT_PLATFORM": "windows/amd64:"}, []string{"input platform"}},

		{"password alone", good, env{"INPUT_SOURCE-PASSWORD": "hunter2"}, []string{"without source-username", "give both"}},
		{"username alone", good, env{"INPUT_SOURCE-USERNAME": "me"}, []string{"without source-password", "from a fork",
			"Dependabot", "give both"}},
		{"registry alone", good, env{"INPUT_SOURCE-REGISTRY": "ghcr.io"},
			[]string{"without source-username and source-password", "from a fork", "Dependabot", "give all three"}},
		{
			"login for metadata", goodMetadata,
			env{"INPUT_SOURCE-USERNAME": "me", "INPUT_SOURCE-PASSWORD": "hunter2"}, []string{"source-registry: ghcr.io"},
		},
		{"login for a file", goodFile, env{"INPUT_SOURCE-USERNAME": "me", "INPUT_SOURCE-PASSWORD": "hunter2"},
			[]string{"for an image's registry", "leave them out"}},

		{"architectures of an image", good, env{"INPUT_ARCHITECTURES": "amd64"}, []string{"input architectures: given for " +
			"an image, but for files only"}},
		{"architectures of a charm's images", goodMetadata, env{"INPUT_ARCHITECTURES": "amd64"},
			[]string{"input architectures: given for an image, but for files only"}},
		{"architectures of a key", good, env{"INPUT_DIGEST": "", "INPUT_KEY": "k", "INPUT_ARCHITECTURES": "amd64"},
			[]string{"input architectures: given for an image, but for files only"}},
		{"unknown architecture", goodFile, env{"INPUT_ARCHITECTURES": "amd64,vax"},
			[]string{`"vax"`, "choose from all, amd64"}},
		{"Go's architecture", goodFile, env{"INPUT_ARCHITECTURES": "ppc64le"}, []string{`"ppc64le"`, "write ppc64el"}},
		{"kernel's architecture", goodFile, env{"INPUT_ARCHITECTURES": "x86_64"}, []string{"write amd64"}},
		{"all and more", goodFile, env{"INPUT_ARCHITECTURES": "amd64 all"}, []string{"keep all, or the others"}},

		{"no token", good, env{"INPUT_STORE-TOKEN": ""}, []string{"charmcraft login --export",
			"store-token: ${{ secrets.CHARMHUB_TOKEN }}", "from a fork", "Dependabot"}},
		{"compression", good, env{"INPUT_COMPRESSION": "lzma"}, []string{`input compression: "lzma" is unknown`,
			"gzip or zstd"}},
		{"compression of a file", good, env{"INPUT_COMPRESSION": "zstd", "INPUT_DIGEST": "", "INPUT_FILEPATH": "f"},
			[]string{"input compression: given with filepath, but for images only"}},
		{"key of a file", good, env{"INPUT_KEY": "k", "INPUT_DIGEST": "", "INPUT_FILEPATH": "f"},
			[]string{"input key: given with filepath, but for images only"}},
		{"key of a charm's images", goodMetadata, env{"INPUT_KEY": "k"},
			[]string{"input key: given with metadata, but for one image"}},
		{"key without records", good, env{"INPUT_KEY": "k", "INPUT_LOCATIONS-RECORD": "false"},
			[]string{"input key: given with locations-record false"}},
		{"push-only of a file", good, env{"INPUT_PUSH-ONLY": "true", "INPUT_DIGEST": "", "INPUT_FILEPATH": "f"},
			[]string{"input push-only: given with filepath, but for images only"}},
		{"dry-run", good, env{"INPUT_DRY-RUN": "maybe"}, []string{`input dry-run: "maybe" is unknown`, "true or false"}},

		{"relative URL", good, env{"INPUT_STORE-URL": "api.charmhub.io"},
			[]string{"input store-url", "https://api.charmhub.io"}},
		{"broken URL", good, env{"INPUT_STORAGE-URL": "https://x:y:z"}, []string{"input storage-url"}},
		{"plain HTTP", good, env{"INPUT_REGISTRY-URL": "http://registry.example"},
			[]string{"input registry-url", "https://"}},
		{"address elsewhere", good, env{"INPUT_REGISTRY-URL": "http://192.0.2.1"},
			[]string{"input registry-url", "https://"}},
		{"near loopback", good, env{"INPUT_SSO-URL": "http://127.0.0.1.example"}, []string{"input sso-url"}},
		{"other scheme", good, env{"INPUT_STORE-URL": "ftp://localhost"}, []string{"https://"}},
		{"query", good, env{"INPUT_STORE-URL": "https://x/?a=b"}, []string{"more than a server and a path"}},
		{"variable", good, env{"CHARMCRAFT_UPLOAD_URL": "x"}, []string{"variable CHARMCRAFT_UPLOAD_URL"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := newRunner(tt.inputs.With(tt.change))
			_, err := read(t, r)
			if err == nil {
				t.Fatal("no complaint")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %s", part, err)
				}
			}
			if !regexp.MustCompile(`^(?:inputs?|variable) [^\n]+: [^\n]+; [^\n]+[^.\n]$`).MatchString(err.Error()) {
				t.Errorf("not of the form \"input X: what is wrong; what to do\": %s", err)
			}
		})
	}
}

func TestAllComplaintsAtOnce(t *testing.T) {
	r, _ := newRunner(env{
		"INPUT_CHARM": "X", "INPUT_DIGEST": "a:b", "INPUT_FILEPATH": "f", "INPUT_PLATFORM": "linux/amd64",
		"INPUT_ARCHITECTURES": "vax x86_64", "INPUT_DRY-RUN": "2", "INPUT_STORE-URL": "x", "INPUT_SSO-URL": "http://x",
	})
	_, err := read(t, r)
	if err == nil {
		t.Fatal("no complaint")
	}
	testkit.Golden(t, "complaints", err.Error()+"\n")
}

func TestComplaintsKeepSecrets(t *testing.T) {
	const secret = "hunter2hunter2"
	r, out := newRunner(good.With(env{
		"INPUT_STORE-TOKEN": secret,
		"INPUT_CHARM":       secret + "_",
		"INPUT_STORE-URL":   "https://me:p4ssword@x",
	}))
	_, err := read(t, r)
	r.Fail(err)
	if got := out.String(); strings.Contains(got, secret) || strings.Contains(got, "p4ssword") ||
		!strings.Contains(got, `"***_"`) {
		t.Errorf("printed %q", got)
	}
}

// A login is for the one registry that it can be for.
func TestLogin(t *testing.T) {
	login := env{"INPUT_SOURCE-USERNAME": "me", "INPUT_SOURCE-PASSWORD": "hunter2"}
	images := func(names ...string) env {
		return env{"INPUT_DIGEST": "", "INPUT_IMAGE": strings.Join(names, "@"+someDigest+"\n") + "@" + someDigest}
	}
	for name, test := range map[string]struct {
		change env
		want   source.Login
		err    string
	}{
		"that of the images": {images("GHCR.io/a", "ghcr.io/b"), source.Login{Registry: "ghcr.io", Username: "me",
			Password: "hunter2"}, ""},
		"named": {images("ghcr.io/a", "b").With(env{"INPUT_SOURCE-REGISTRY": "index.docker.io"}),
			source.Login{Registry: "docker.io", Username: "me", Password: "hunter2"}, ""},
		"named, without an image": {images("ghcr.io/a", "b").With(env{"INPUT_SOURCE-REGISTRY": "quay.io"}),
			source.Login{}, "input source-registry: no image is in quay.io, but in ghcr.io, docker.io; name the registry "},
		"none":    {env{}, source.Login{Registry: "", Username: "me", Password: "hunter2"}, ""},
		"several": {images("ghcr.io/a", "b"), source.Login{}, "several registries, ghcr.io, docker.io"},
		"nothing to log in with": {images("ghcr.io/a", "b").With(env{"INPUT_SOURCE-USERNAME": "",
			"INPUT_SOURCE-PASSWORD": ""}), source.Login{}, ""},
		"two complaints": {images("ghcr.io/a", "b").With(env{"INPUT_SOURCE-USERNAME": ""}), source.Login{},
			"give both, or none where an earlier step logged in or the registry asks for none\ninput source-password: the " +
				"images are in several"},
		"a registry that isn't": {env{"INPUT_SOURCE-REGISTRY": "me/you"}, source.Login{},
			`input source-registry: "me/you" is no registry`},
	} {
		r, _ := newRunner(good.With(login).With(test.change))
		got, err := read(t, r)
		if test.err != "" {
			wantError(t, err, test.err)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.Login != test.want {
			t.Errorf("%s: got %v, want %v", name, got.Login, test.want)
		}
	}
}

// A complaint about a tag says which digest it has. The password goes along only where it is certain whom it is for.
func TestTagsAreLookedUp(t *testing.T) {
	tagged := good.With(env{"INPUT_DIGEST": "", "INPUT_IMAGE": "ghcr.io/a:1\ndocker-daemon:b:1",
		"INPUT_SOURCE-USERNAME": "me", "INPUT_SOURCE-PASSWORD": "hunter2"})
	for name, test := range map[string]struct {
		change env
		want   source.Login
	}{
		"tags alone":        {nil, source.Login{Registry: "ghcr.io", Username: "me", Password: "hunter2"}},
		"another complaint": {env{"INPUT_CHARM": ""}, source.Login{}},
		"another complaint, and a registry": {env{"INPUT_CHARM": "", "INPUT_SOURCE-REGISTRY": "ghcr.io"},
			source.Login{Registry: "ghcr.io", Username: "me", Password: "hunter2"}},
	} {
		r, _ := newRunner(tagged.With(test.change))
		var asked []string
		_, err := ReadInputs(t.Context(), r, Lookup{Engine: noEngine, Registry: func(_ context.Context, login source.Login,
			name string) (v1.Hash, error) {
			asked = append(asked, name)
			if login != test.want {
				t.Errorf("%s: asked with %v, want %v", name, login, test.want)
			}
			return v1.NewHash(someDigest)
		}})
		wantError(t, err, "has no digest", "right now the tag names ghcr.io/a:1@"+someDigest)
		if diff := cmp.Diff([]string{"ghcr.io/a:1"}, asked); diff != "" {
			t.Errorf("%s: asked for (-want +got):\n%s", name, diff)
		}
	}
}

// A name may be that of an image in the local container engine, and then Docker Hub's is another one.
func TestNamesAreLookedUp(t *testing.T) {
	const id = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	engine := "; the container engine has an image of that name: give its ID, " + id +
		", as the input digest, or in place of the name"
	for input, test := range map[string]struct {
		local, registry string // what is asked for
		want            string
	}{
		"digest=built:1":              {"built:1", "", engine},
		"digest=built":                {"built", "", engine},
		"digest=other:1":              {"other:1", "", ""},
		"image=built:1":               {"built:1", "", engine},
		"image=docker-daemon:built:1": {"built:1", "", engine},
		"image=docker-daemon:other:1": {"other:1", "", ""},
		"image=docker://built:1": {"", "docker.io/library/built:1",
			"; on Docker Hub, the tag names docker.io/library/built:1@" + someDigest + " right now"},
		"image=other:1": {"other:1", "docker.io/library/other:1",
			"; on Docker Hub, the tag names docker.io/library/other:1@" + someDigest + " right now"},
		"image=docker.io/me/other:1": {"docker.io/me/other:1", "docker.io/me/other:1",
			"; right now the tag names docker.io/me/other:1@" + someDigest},
		"image=ghcr.io/built:1": {"ghcr.io/built:1", "ghcr.io/built:1",
			engine + "; right now the tag names ghcr.io/built:1@" + someDigest},
	} {
		name, value, _ := strings.Cut(input, "=")
		r, _ := newRunner(good.With(env{"INPUT_DIGEST": ""}).With(env{"INPUT_" + strings.ToUpper(name): value}))
		var local, registry string
		_, err := ReadInputs(t.Context(), r, Lookup{
			Engine: func(_ context.Context, name string) (v1.Hash, error) {
				if local = name; !strings.Contains(name, "built") {
					return noEngine(t.Context(), name)
				}
				return v1.NewHash(id)
			},
			Registry: func(_ context.Context, _ source.Login, name string) (v1.Hash, error) {
				registry = name
				return v1.NewHash(someDigest)
			},
		})
		if local != test.local || registry != test.registry {
			t.Errorf("%s: asked the engine for %q and a registry for %q, want %q and %q", input, local, registry, test.local,
				test.registry)
		}
		if err == nil || test.want != "" && !strings.HasSuffix(err.Error(), test.want) || test.want == "" &&
			strings.Contains(err.Error(), someDigest) {
			t.Errorf("%s: %v, want %q at the end", input, err, test.want)
		}
	}
}

// Before it is said which of several registries the password is for, none is asked.
func TestNoTagIsLookedUp(t *testing.T) {
	for name, change := range map[string]env{
		"several registries":        {"INPUT_IMAGE": "ghcr.io/a:1\nquay.io/b:1"},
		"a registry that isn't one": {"INPUT_IMAGE": "ghcr.io/a:1", "INPUT_SOURCE-REGISTRY": "https://ghcr.io"},
	} {
		r, _ := newRunner(good.With(env{"INPUT_DIGEST": "", "INPUT_SOURCE-USERNAME": "me",
			"INPUT_SOURCE-PASSWORD": "hunter2"}).With(change))
		_, err := ReadInputs(t.Context(), r, Lookup{Engine: noEngine, Registry: func(context.Context, source.Login,
			string) (v1.Hash, error) {
			t.Errorf("%s: a registry was asked", name)
			return v1.Hash{}, nil
		}})
		wantError(t, err, "source-registry", "ghcr.io/a:1")
	}
}
