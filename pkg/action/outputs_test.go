package action

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var someOutputs = Outputs{
	Revision:        new(7),
	RevisionCreated: true,
	RemoteDigest:    "sha256:aa",
	RemoteImage:     "registry.example/charm/x/y@sha256:aa",
	SourceDigest:    "sha256:bb",
	Uploaded:        true,
	Resource:        "y",
}

func TestSetOutputsWritesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output")
	r, out := newRunner(t, underActions.with(env{"GITHUB_OUTPUT": path}))
	r.Mask("secret-part")
	out.Reset()
	if err := r.SetOutputs(someOutputs); err != nil {
		t.Fatal(err)
	}
	if err := r.SetOutputs(Outputs{RemoteImage: "secret-part/x"}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "outputs.file", string(content))
	if out.Len() != 0 {
		t.Errorf("printed %q", out)
	}
}

func TestSetOutputsPrintsWithoutFile(t *testing.T) {
	r, out := newRunner(t, outside)
	if err := r.SetOutputs(someOutputs); err != nil {
		t.Fatal(err)
	}
	golden(t, "outputs.printed", out.String())
}

func TestSetOutputsRefusesToBeTricked(t *testing.T) {
	for name, value := range map[string]string{
		"line break":        "x\nrevision=9",
		"carriage return":   "x\rrevision=9",
		"delimiter":         "_GitHubActionsFileCommandDelimeter_",
		"delimiter in line": "x\n_GitHubActionsFileCommandDelimeter_\nrevision=9",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "output")
			r, _ := newRunner(t, env{"GITHUB_OUTPUT": path})
			err := r.SetOutputs(Outputs{Revision: new(7), RemoteImage: value})
			if err == nil || !strings.Contains(err.Error(), "remote-image") {
				t.Errorf("got error %v", err)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("something was written nevertheless")
			}
		})
	}
}

func TestSetOutputsSaysThatTheFileIsNotWritable(t *testing.T) {
	r, _ := newRunner(t, env{"GITHUB_OUTPUT": t.TempDir()})
	err := r.SetOutputs(Outputs{})
	if err == nil || !strings.Contains(err.Error(), "run as root") {
		t.Errorf("got error %v", err)
	}
}

func TestListOfSeveral(t *testing.T) {
	first := Outputs{Resource: "a", Revision: new(0), RemoteDigest: "sha256:aa"}
	second := Outputs{Resource: "b", Revision: new(3), RevisionCreated: true, Uploaded: true}
	failed := Outputs{Resource: "c", Uploaded: true, Failed: true}
	tests := map[string]struct {
		all  []Outputs
		want map[string]string
	}{
		"one, with the number 0": {[]Outputs{first}, map[string]string{
			"revision": "0", "remote-digest": "sha256:aa", "revision-created": "false", "uploaded": "false",
			"resource-flag": "a:0", "resource-flags": "--resource=a:0",
			"resources": `[{"name":"a","revision":0,"created":false,"remote-digest":"sha256:aa","uploaded":false}]`,
		}},
		"several": {[]Outputs{first, second}, map[string]string{
			"revision": "", "remote-digest": "", "revision-created": "true", "uploaded": "true",
			"resource-flag": "", "resource-flags": "--resource=a:0 --resource=b:3",
		}},
		"one of two failed": {[]Outputs{first, failed}, map[string]string{
			"revision": "", "remote-digest": "", "revision-created": "false", "uploaded": "true",
			"resource-flag": "", "resource-flags": "--resource=a:0",
			"resources": `[{"name":"a","revision":0,"created":false,"remote-digest":"sha256:aa","uploaded":false}]`,
		}},
		"none": {nil, map[string]string{"revision": "", "revision-created": "false", "uploaded": "false", "resources": "[]"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			outputs, err := list(test.all)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, o := range outputs {
				got[o.name] = o.value
			}
			for name, want := range test.want {
				if got[name] != want {
					t.Errorf("%s is %q, want %q", name, got[name], want)
				}
			}
		})
	}
}
