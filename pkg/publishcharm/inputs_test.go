package publishcharm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/internal/charmtest"
	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/publish"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// env is the environment of a test, by variable name.
type env = testkit.Env

const (
	aToken     = testkit.Token
	someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	metadata   = `
name: my-charm
resources:
  my-image: {type: oci-image}
  my-file: {type: file}
  extra: {type: file, optional: true}
  copied: {type: oci-image, upstream-source: "ghcr.io/x/copied:1"}
`
)

var noble = charm.Base{Name: "ubuntu", Channel: "24.04", Architecture: "amd64"}

// workspace is a folder with charm files, images and a file, in which inputs are read.
type folder struct {
	t    *testing.T
	path string
	out  bytes.Buffer
}

// newFolder returns a folder with a charm, three rocks and two other files.
func newFolder(t *testing.T) *folder {
	t.Helper()
	f := &folder{t: t, path: t.TempDir()}
	f.write("a.charm", charmtest.File(t, metadata, noble))
	for _, name := range []string{"a.rock", "b.rock", "with blank.rock", "rules.txt", "revision"} {
		f.write(name, name)
	}
	return f
}

// write writes a file into the folder.
func (f *folder) write(name, content string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.path, name), []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// read reads inputs. A file is an image if its name ends in .rock.
func (f *folder) read(given env) (Inputs, error) {
	f.t.Helper()
	e := env{"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": f.path, "INPUT_CHARMS": "a.charm",
		"INPUT_CHANNEL": "latest/edge", "INPUT_STORE-TOKEN": aToken}.With(given)
	f.out.Reset()
	runner := action.New(e.Get, &f.out)
	lookup := publish.Lookup{
		Registry: func(context.Context, source.Login, string) (v1.Hash, error) {
			return v1.Hash{}, errors.New("no registry")
		},
		Engine: func(context.Context, string) (v1.Hash, error) { return v1.Hash{}, errors.New("no engine") },
	}
	return ReadInputs(f.t.Context(), runner, lookup, func(_ context.Context, ref source.Reference) (source.Source, error) {
		if !strings.HasSuffix(ref.Path, ".rock") {
			return nil, errors.New(ref.Text + ": neither a rock nor anything else")
		}
		return nil, nil //nolint:nilnil // nobody closes it here
	})
}

func TestInputs(t *testing.T) {
	f := newFolder(t)
	for name, test := range map[string]struct {
		lines     string
		items     []string // the resource, and what it gets
		revisions map[string]int
	}{
		"an image, a file": {
			"my-image = a.rock\nmy-file = rules.txt",
			[]string{"copied from ghcr.io/x/copied:1", "my-file file rules.txt", "my-image images a.rock"}, nil,
		},
		"joined, with blanks before the =": {
			"  my-image   = a.rock b.rock\nmy-file=rules.txt\ncopied=docker://ghcr.io/x/y@" + someDigest,
			[]string{"copied images docker://ghcr.io/x/y@" + someDigest, "my-file file rules.txt",
				"my-image images a.rock, b.rock"}, nil,
		},
		"digests of other jobs": {
			"my-image = " + someDigest + " 0123456789ab\nmy-file = keep\ncopied = keep",
			[]string{"my-image images " + someDigest + ", 0123456789ab"}, nil,
		},
		"what is there": {
			"my-image = revision 12\nmy-file = revision 0\nextra = keep\ncopied = keep", nil,
			map[string]int{"my-image": 12, "my-file": 0},
		},
		"files with odd names": {
			"my-image = with blank.rock\nmy-file = ./revision",
			[]string{"copied from ghcr.io/x/copied:1", "my-file file ./revision", "my-image images with blank.rock"}, nil,
		},
		"a key for an image": {
			"my-image = a.rock key=text with blanks\nmy-file = keep\ncopied = keep",
			[]string{"my-image images a.rock key text with blanks"}, nil,
		},
		"a key for a recorded one": {
			"my-image = key=text\nmy-file = keep\ncopied = keep", []string{"my-image images  key text"}, nil,
		},
		"a key where the build was skipped": {
			"my-image =  key=text\nmy-file = keep\ncopied = keep", []string{"my-image images  key text"}, nil,
		},
		"a platform": {
			"my-image = a.rock platform=linux/arm64\nmy-file = keep\ncopied = keep", []string{"my-image images a.rock"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := f.read(env{"INPUT_RESOURCES": test.lines})
			if err != nil {
				t.Fatal(err)
			}
			var items []string
			for _, item := range in.Items {
				var images []string
				for _, part := range item.Images {
					images = append(images, part.Text)
				}
				text := item.Resource + " images " + strings.Join(images, ", ")
				switch {
				case item.Upstream != "":
					text = item.Resource + " from " + item.Upstream
				case item.File != "":
					text = item.Resource + " file " + item.File
				}
				for _, key := range []string{"text", "text with blanks"} {
					if item.Key == publish.KeyOf(key) {
						text += " key " + key
					}
				}
				items = append(items, text)
			}
			if diff := cmp.Diff(test.items, items); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
			if test.revisions == nil {
				test.revisions = map[string]int{}
			}
			if diff := cmp.Diff(test.revisions, in.Revisions); diff != "" {
				t.Errorf("revisions (-want +got):\n%s", diff)
			}
			if in.Charm != "my-charm" || len(in.Files) != 1 || in.ReleaseCredentials != in.Credentials {
				t.Errorf("got %+v", in)
			}
		})
	}
}

// TestComplaints: each thing that is left out, misspelt, of the wrong type or empty is one complaint.
func TestComplaints(t *testing.T) {
	f := newFolder(t)
	f.write("other.charm", charmtest.File(t, "name: other", noble))
	f.write("newer.charm", charmtest.File(t, strings.Replace(metadata, "my-file: {type: file}",
		"my-file: {type: oci-image}", 1), noble))
	f.write("odd.charm", charmtest.File(t, "name: my-charm\nresources: {odd: {type: image, optional: true}}", noble))
	const good = "my-image = a.rock\nmy-file = rules.txt"
	const empty = "(an expression whose step or output doesn't exist is empty)"
	for name, test := range map[string]struct {
		given env
		want  string
	}{
		"no charms": {env{"INPUT_CHARMS": ""},
			"input charms: missing; give the packed charm files, for example ${{ steps.pack.outputs.charms }} " + empty},
		"no such charm": {env{"INPUT_CHARMS": "b.charm"}, "input charms: cannot find b.charm"},
		"no charm":      {env{"INPUT_CHARMS": "a.rock"}, "input charms: a.rock: not a charm file: "},
		"two charms": {env{"INPUT_CHARMS": "a.charm other.charm"},
			"input charms: other.charm is of charm 'other', not 'my-charm'; "},
		"charms that differ": {env{"INPUT_CHARMS": "a.charm newer.charm"},
			"input charms: newer.charm declares resource 'my-file' with another type or upstream-source than the files before " +
				"it"},
		"a type that is none": {env{"INPUT_CHARMS": "odd.charm", "INPUT_RESOURCES": ""},
			`input charms: odd.charm declares resource 'odd' of type "image", which is no type of resource`},
		"no channel": {env{"INPUT_CHANNEL": ""}, "input channel: missing; give where to release, for example latest/edge"},
		"no risk":    {env{"INPUT_CHANNEL": "latest"}, `input channel: "latest" is not a channel; `},
		"none":       {env{"INPUT_CHANNEL": "none"}, `input channel: "none" is not a channel; `},
		"no resources": {env{"INPUT_RESOURCES": ""}, "input resources: nothing is given for my-file, my-image, which the " +
			"charm needs; add these lines, with keep for what the channel has " + empty + ":\nmy-file = PATH\nmy-image = IMAGE"},
		"one missing": {env{"INPUT_RESOURCES": "my-image = a.rock"},
			"input resources: nothing is given for my-file, which the charm needs; add these lines, "},
		"an empty line": {env{"INPUT_RESOURCES": "my-image = a.rock\n\nmy-file = rules.txt"},
			"input resources: line 2 is empty; "},
		"an empty source": {env{"INPUT_RESOURCES": "my-image = \nmy-file = rules.txt"},
			"input resources: my-image: the source is empty; give what belongs there, or keep for the revision that the " +
				"channel has " + empty},
		"an empty last source": {env{"INPUT_RESOURCES": "my-image = b.rock \nmy-file = rules.txt"},
			`input resources: my-image: two blanks or one at the end of "b.rock "; a source may be missing there ` + empty},
		"an empty first source": {env{"INPUT_RESOURCES": "my-image =  " + someDigest + "\nmy-file = rules.txt"},
			`input resources: my-image: two blanks or one at the end of "=  ` + someDigest + `"; a source may be missing ` +
				"there " + empty},
		"an empty first source before a key": {env{"INPUT_RESOURCES": "my-image =  b.rock key=x\nmy-file = rules.txt"},
			`input resources: my-image: two blanks or one at the end of "=  b.rock"; `},
		"an empty part before a file": {env{"INPUT_RESOURCES": "my-image = a.rock\nmy-file =\t rules.txt"},
			`input resources: my-file: two blanks or one at the end of "=\t rules.txt"; `},
		"an empty source within": {env{"INPUT_RESOURCES": "my-image = a.rock  b.rock\nmy-file = rules.txt"},
			"input resources: my-image: two blanks or one at the end"},
		"an empty key": {env{"INPUT_RESOURCES": "my-image = a.rock key=\nmy-file = rules.txt"},
			"input resources: my-image: the key is empty, as that of hashFiles is where no file matches; "},
		"no =": {env{"INPUT_RESOURCES": good + "\nextra rules.txt"},
			`input resources: "extra rules.txt" has no =; write name = source, `},
		"no name": {env{"INPUT_RESOURCES": good + "\n= rules.txt"}, `input resources: "" is invalid; `},
		"misspelt": {env{"INPUT_RESOURCES": good + "\nmy-imag = keep"},
			"input resources: my-imag: the charm files declare no such resource, " +
				"but copied, extra, my-file, my-image; correct the name, or leave out the line"},
		"two lines": {env{"INPUT_RESOURCES": good + "\nmy-image = b.rock"},
			"input resources: my-image: there are two lines for it; keep one, and put the images"},
		"no revision": {env{"INPUT_RESOURCES": "my-image = revision x\nmy-file = rules.txt"},
			`input resources: my-image: "revision x" has no number; write for example revision 12`},
		"a key for a file": {env{"INPUT_RESOURCES": "my-image = a.rock\nmy-file = rules.txt key=x"},
			"input resources: my-file: given with a key, which is for images that are built; "},
		"a key to keep": {env{"INPUT_RESOURCES": "my-image = keep key=x\nmy-file = rules.txt"},
			"input resources: my-image: given with a key, "},
		"a tag": {env{"INPUT_RESOURCES": "my-image = ghcr.io/x/y:1\nmy-file = rules.txt"},
			"input resources: my-image: \"ghcr.io/x/y:1\" has no digest, and a tag may name another image tomorrow"},
		"no such image": {env{"INPUT_RESOURCES": "my-image = ./c.rok\nmy-file = rules.txt"},
			"input resources: my-image: ./c.rok: neither a rock"},
		"a file as image": {env{"INPUT_RESOURCES": "my-image = rules.txt\nmy-file = rules.txt"},
			"input resources: my-image: rules.txt: neither a rock nor anything else"},
		"an image as file": {env{"INPUT_RESOURCES": "my-image = a.rock\nmy-file = ghcr.io/x/y@" + someDigest},
			"input resources: my-file: cannot find ghcr.io/x/y@sha256:"},
		"a digest as file": {env{"INPUT_RESOURCES": "my-image = a.rock\nmy-file = " + someDigest},
			"input resources: my-file: " + someDigest + " is an image's digest, and my-file is of type file; give the path of " +
				"a file"},
		"a folder as file": {env{"INPUT_RESOURCES": "my-image = a.rock\nmy-file = ."}, "input resources: my-file: "},
		"a misspelt digest": {env{"INPUT_RESOURCES": "my-image = sha256:0123\nmy-file = rules.txt"},
			`input resources: my-image: "sha256:0123" is not a digest`},
		"no token": {env{"INPUT_STORE-TOKEN": ""},
			"input store-token: no credentials for Charmhub are given; make some with `charmcraft login --export=token.txt " +
				"--charm=my-charm --permission=package-manage-revisions --permission=package-view-revisions " +
				"--permission=package-manage-releases"},
		"a damaged token": {env{"INPUT_RELEASE-TOKEN": "damaged token"},
			"input release-token: cannot read the store token: "},
		"a password for several": {env{"INPUT_RESOURCES": "my-image = quay.io/x/y@" + someDigest + "\nmy-file = rules.txt",
			"INPUT_SOURCE-USERNAME": "me", "INPUT_SOURCE-PASSWORD": "pass-word"},
			"input source-password: the images are in several registries, quay.io, ghcr.io, and it is for one of them; "},
		"unknown compression": {env{"INPUT_COMPRESSION": "xz"}, `input compression: "xz" is unknown; write gzip or zstd`},
		"maybe dry":           {env{"INPUT_DRY-RUN": "maybe"}, `input dry-run: "maybe" is unknown; write true or false`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.read(env{"INPUT_RESOURCES": good}.With(test.given))
			testkit.WantError(t, err, test.want)
			if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) != 1 {
				t.Errorf("%d complaints, want 1: %v", len(joined.Unwrap()), err)
			}
		})
	}
}

// TestAllComplaints: all are said at once, and no secret is shown.
func TestAllComplaints(t *testing.T) {
	f := newFolder(t)
	_, err := f.read(env{
		"INPUT_CHANNEL": "", "INPUT_COMPRESSION": "xz", "INPUT_STORE-TOKEN": "no token", "INPUT_RELEASE-TOKEN": "none either",
		"INPUT_RESOURCES": "my-image = user:pass-word@ghcr.io/x/y:1\nextra = absent\nmy-imag = x",
	})
	testkit.WantError(t, err, "input channel: missing", "input compression: ", "input store-token: ",
		"input release-token: ", "my-image: ", "extra: ", "my-imag: ", "nothing is given for my-file")
	if strings.Contains(err.Error(), "pass-word") || !strings.Contains(f.out.String(), "::add-mask::pass-word") ||
		!strings.Contains(f.out.String(), "::add-mask::none either") {
		t.Errorf("a secret is shown, or isn't masked: %v\n%s", err, f.out.String())
	}
}

func FuzzLines(f *testing.F) {
	f.Add("my-image = a.rock b.rock platform=linux/arm64 key=x\nmy-file = revision 3")
	f.Add("a=b=c\n=\n = key=\nmy-image = \tkeep ")
	f.Fuzz(func(t *testing.T, lines string) {
		r := &reader{in: Inputs{Revisions: map[string]int{}}, declared: map[string]charm.Resource{
			"my-image": {Type: charm.TypeImage}, "my-file": {Type: charm.TypeFile},
		}}
		r.Runner = action.New(env{"GITHUB_WORKSPACE": t.TempDir(), "GITHUB_ACTIONS": "true"}.Get, new(bytes.Buffer))
		r.readLines(strings.Split(lines, "\n"))
		for name, number := range r.in.Revisions {
			if number < 0 || charm.CheckResourceName(name) != nil {
				t.Errorf("%q gets revision %d", name, number)
			}
		}
	})
}
