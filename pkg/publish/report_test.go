package publish

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/action"
)

func TestOutputs(t *testing.T) {
	first := Result{Target: Target{"x", "a"}, Revised: Revised{Revision: new(0)}, RemoteDigest: "sha256:aa"}
	second := Result{Target: Target{"x", "b"}, Revised: Revised{Revision: new(3), Created: true}, Uploaded: true}
	failed := Result{Target: Target{"x", "c"}, Uploaded: true, Err: errors.New("no")}
	planned := Result{Target: Target{"x", "d"}, DryRun: true, RemoteDigest: "sha256:bb"}
	tests := map[string]struct {
		results []Result
		want    map[string]string
	}{
		"one, with the number 0": {[]Result{first}, map[string]string{
			"revision": "0", "remote-digest": "sha256:aa", "revision-created": "false", "uploaded": "false",
			"resource-flag": "a:0", "resource-flags": "--resource=a:0",
			"resources": `[{"name":"a","revision":0,"created":false,"remote-digest":"sha256:aa","uploaded":false}]`,
		}},
		"several": {[]Result{first, second}, map[string]string{
			"revision": "", "remote-digest": "", "revision-created": "true", "uploaded": "true",
			"resource-flag": "", "resource-flags": "--resource=a:0 --resource=b:3",
		}},
		"one of two failed": {[]Result{first, failed}, map[string]string{
			"revision": "", "remote-digest": "", "revision-created": "false", "uploaded": "true",
			"resource-flag": "", "resource-flags": "--resource=a:0",
			"resources": `[{"name":"a","revision":0,"created":false,"remote-digest":"sha256:aa","uploaded":false}]`,
		}},
		"one, and one left out": {[]Result{second, {Target: Target{"x", "e"}, LeftOut: "of type file"}}, map[string]string{
			"revision": "3", "resource-flag": "b:3", "resources": `[{"name":"b","revision":3,"created":true,"uploaded":true}]`,
		}},
		"dry run": {[]Result{planned}, map[string]string{
			"revision": "", "remote-digest": "sha256:bb", "resource-flag": "", "resource-flags": "",
			"resources": `[{"name":"d","created":false,"remote-digest":"sha256:bb","uploaded":false}]`,
		}},
		"none": {nil, map[string]string{"revision": "", "revision-created": "false", "uploaded": "false", "resources": "[]"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			list, err := Outputs(test.results)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, o := range list {
				got[o.Name] = o.Value
			}
			for name, want := range test.want {
				if got[name] != want {
					t.Errorf("%s is %q, want %q", name, got[name], want)
				}
			}
		})
	}
}

// A summary that can't be written is a warning: the outputs are set all the same.
func TestReport(t *testing.T) {
	runner, out := newRunner(env{"GITHUB_STEP_SUMMARY": filepath.Join(t.TempDir(), "no", "folder")})
	if err := Report(runner, time.Second, "", []Result{newResult("image-01", 7)}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Warning: cannot add to the step's summary", "Done in 1.00 s, 5.0 MB sent\n",
		"revision=7\n", "resource-flag=image-01:7\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q was not printed:\n%s", want, out)
		}
	}
}

var _ Reporter = (*action.Runner)(nil)
