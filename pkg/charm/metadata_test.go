package charm

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMetadata(t *testing.T) {
	tests := map[string]struct {
		text   string
		name   string
		images []string
		err    string
	}{
		"nothing": {},
		"a charm's": {
			text: `
name: my-charm
type: charm
links: {documentation: https://example.com}
containers:
  workload: {resource: second}
resources:
  second: {type: oci-image, description: A workload, upstream-source: "ghcr.io/x/y:1"}
  first:
    type: oci-image
    upstream-source: ghcr.io/x/z@sha256:aa
`,
			name: "my-charm", images: []string{"first", "second"},
		},
		"files and images without a source are left out": {
			text: `
name: my-charm
resources:
  a: {type: file, filename: a.txt, upstream-source: x}
  b: {type: oci-image}
  c: {type: oci-image, upstream-source: ""}
  d: {type: oci-image, upstream-source: null}
  e:
`,
			name: "my-charm",
		},
		"aliases": {
			text: `
name: my-charm
x: &image {type: oci-image, upstream-source: y}
resources:
  a: *image
  b:
    <<: *image
    upstream-source: z
`,
			name: "my-charm", images: []string{"a", "b"},
		},
		"null everywhere":                     {text: "name:\nresources: ~\n"},
		"nothing but a comment":               {text: "# name: my-charm\n"},
		"a document that begins and ends":     {text: "%YAML 1.1\n---\nname: my-charm\n...\n", name: "my-charm"},
		"a key in quotes that merges nothing": {text: "name: my-charm\n\"<<\": [a]\n", name: "my-charm"},
		"a merge key in a text":               {text: "name: my-charm\nz: \"<< : <<:\"\n", name: "my-charm"},
		"a resource twice": {text: "resources:\n  a: {type: file}\n  a: {type: oci-image}\n",
			err: `line 3: the key "a" is there twice, first in line 2`},
		"all resources twice": {text: "resources: {}\nname: x\nresources: {}\n",
			err: `line 3: the key "resources" is there twice, first in line 1`},
		"a charm's name that is none": {text: "name: ../x", err: `the charm's name "../x" is invalid`},
		"a resource's name that is none": {text: "resources: {\"x --y\": {type: oci-image, upstream-source: z}}",
			err: `the resource's name "x --y" is invalid`},
		"a list": {text: "- a", err: "line 1: the metadata is a list; write a mapping"},
		"a source that is a list": {text: "resources: {a: {type: oci-image, upstream-source: [b]}}",
			err: "line 1: upstream-source is a list; write a text"},
		"no YAML":                {text: "a: [", err: "yaml:"},
		"more than there can be": {text: "# " + strings.Repeat("x", maxText), err: "more than 1048576 bytes"},
		"a number for a name":    {text: "name: 12", err: `the charm's name "12" is invalid`},
		"neither true nor false": {text: "resources: {a: {optional: maybe}}",
			err: `line 1: optional is "maybe"; write true or false`},
		"a text for resources":              {text: "resources: a", err: "line 1: resources is a text; write a mapping"},
		"a key that is a list":              {text: "x:\n  [a]: b", err: "line 2: a key is a list; write a text"},
		"a key twice where nothing is read": {text: "x:\n- a: 1\n  a: 2", err: `line 3: the key "a" is there twice`},
		"two merges": {text: "x: &x {}\nresources: {<<: *x, <<: *x}",
			err: `the key "<<" is there twice`},
		"a merge of a list": {text: "resources: {<<: [[a]]}", err: "line 1: resources is a list; write a mapping"},
		"two documents": {text: "name: x\n---\nname: y\n",
			err: "line 2: a second document begins; write one document"},
		"a document and nothing": {text: "name: x\n---\n", err: "a second document begins"},
		"a document and no YAML": {text: "name: x\n---\na: [", err: "yaml:"},
		"no UTF-8":               {text: "name: \xff", err: "the text isn't UTF-8"},
		"all complaints": {text: "name: ../x\nresources: {../a: {type: [], optional: maybe}}",
			err: "write true or false"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			m, err := ReadMetadata(strings.NewReader(test.text))
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.images, m.Images()); diff != "" || m.Name != test.name {
				t.Errorf("name %q, want %q; images (-want +got):\n%s", m.Name, test.name, diff)
			}
		})
	}
}

// TestMerges: a key overrides a merged one, and an earlier merge a later one.
func TestMerges(t *testing.T) {
	got, err := ReadMetadata(strings.NewReader(`
first: &first {type: oci-image, upstream-source: first, optional: yes}
second: &second {<<: *first, upstream-source: second}
third: &third {upstream-source: third, optional: "false"}
resources:
  <<: {a: *first, b: {type: oci-image, upstream-source: overridden}}
  b: {upstream-source: own, <<: *second}
  c: {<<: *second}
  d: {<<: [*third, *second]}
  e: {<<: ~, type: file, optional: off}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Resource{
		"a": {TypeImage, "first", true}, "b": {TypeImage, "own", true}, "c": {TypeImage, "second", true},
		"d": {TypeImage, "third", false}, "e": {TypeFile, "", false},
	}
	if diff := cmp.Diff(want, got.Resources); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

// bomb is YAML whose aliases stand for two to the nth.
func bomb(n int) string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x]\n")
	for i := range n {
		before, now := string(rune('a'+i))+"0", string(rune('a'+i+1))+"0"
		b.WriteString(now + ": &" + now + " [*" + before + ", *" + before + "]\n")
	}
	return b.String()
}

// FuzzMetadata: whatever is read, names are such that they can be passed on.
func FuzzMetadata(f *testing.F) {
	f.Add("name: my-charm\nresources:\n  a: {type: oci-image, upstream-source: b}\n")
	f.Add("resources: {\"\\n::error::\": {type: oci-image, upstream-source: b}}")
	f.Add(bomb(5))
	f.Add("x: &x {a: *x}")
	f.Add("? {a: b}\n: c")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ReadMetadata(strings.NewReader(text))
		if err != nil {
			return
		}
		if m.Name != "" && CheckName(m.Name) != nil {
			t.Errorf("charm name %q", m.Name)
		}
		for _, name := range m.Images() {
			if CheckResourceName(name) != nil || m.Resources[name].Source == "" {
				t.Errorf("resource %q from %q", name, m.Resources[name].Source)
			}
		}
	})
}
