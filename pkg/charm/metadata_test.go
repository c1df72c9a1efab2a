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
		"a merge key in a text":          {text: "name: my-charm\nz: \"<< : <<:\"\n", name: "my-charm"},
		"a resource twice":               {text: "resources:\n  a: {type: file}\n  a: {type: oci-image}\n", err: "already set in map"},
		"all resources twice":            {text: "resources: {}\nname: x\nresources: {}\n", err: "already set in map"},
		"a charm's name that is none":    {text: "name: ../x", err: `the charm's name "../x" is invalid`},
		"a resource's name that is none": {text: "resources: {\"x --y\": {type: oci-image, upstream-source: z}}", err: `the resource's name "x --y" is invalid`},
		"a list":                         {text: "- a", err: "the metadata can't be of type array"},
		"a source that is a list":        {text: "resources: {a: {type: oci-image, upstream-source: [b]}}", err: "resources.upstream-source can't be of type array"},
		"no YAML":                        {text: "a: [", err: "yaml:"},
		"more than there can be":         {text: "# " + strings.Repeat("x", maxMetadata), err: "more than 1048576 bytes"},
		"a bomb that nothing reads":      {text: bomb(24), err: "excessive aliasing"},
		"a bomb for resources":           {text: bomb(24) + "resources: *y0\n", err: "excessive aliasing"},
		"deeper than a charm goes":       {text: strings.Repeat("[", 100_000), err: "exceeded max depth"},
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
