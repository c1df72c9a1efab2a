package store

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

func TestFile(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{})
	path := filepath.Join(t.TempDir(), "model.bin")
	inputs := []string{"resource=" + harness.FileResource, "filepath=" + path}

	harness.WriteFile(t, path, "first")
	first := harness.Upload(t, sandbox, inputs...)
	first.Succeeded(t)
	first.Logged(t, harness.LogCreated(harness.FileResource, "1"))
	want := map[string]string{
		"revision": "1", "revision-created": "true", "uploaded": "true", "resource-flag": harness.FileResource + ":1",
		"source-digest": "sha256:" + harness.SHA256Of("first"), "remote-digest": "", "remote-image": "",
	}
	first.HasOutputs(t, want)

	sandbox.ResetRequests()
	again := harness.Upload(t, sandbox, inputs...)
	again.Succeeded(t)
	again.Logged(t, harness.LogUnchanged(harness.FileResource, "1"))
	if diff := cmp.Diff(first.UnchangedOutputs(), again.Outputs); diff != "" {
		t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
	}
	if sent := harness.Changes(sandbox); len(sent) > 0 || len(sandbox.Requests()) > 3 {
		t.Errorf("the rerun changed something, or asked a lot: %v", sandbox.Requests())
	}

	harness.WriteFile(t, path, "second")
	second := harness.Upload(t, sandbox, inputs...)
	second.Succeeded(t)
	second.Logged(t, harness.LogCreated(harness.FileResource, "2"))
	second.HasOutputs(t, map[string]string{"revision": "2", "revision-created": "true", "uploaded": "true"})

	harness.WriteFile(t, path, "first")
	back := harness.Upload(t, sandbox, inputs...)
	back.Succeeded(t)
	back.Logged(t, harness.LogUnchanged(harness.FileResource, "1"))
	if diff := cmp.Diff(first.UnchangedOutputs(), back.Outputs); diff != "" {
		t.Errorf("outputs for the older content (-want +got):\n%s", diff)
	}

	made := sandbox.Revisions(harness.Charm, harness.FileResource)
	if len(made) != 2 || made[0].SHA256 != harness.SHA256Of("first") || made[1].SHA256 != harness.SHA256Of("second") {
		t.Errorf("revisions %+v, want the first and the second content", made)
	}
}

func TestFileArchitectures(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{})
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	steps := []struct {
		input   string
		want    []string
		created string
		changes int
	}{
		{input: "", want: []string{"all"}, created: "true", changes: 2},
		{input: "arm64, amd64", want: []string{"all"}, created: "false"},
		{input: "", want: []string{"all"}, created: "false"},
	}
	for _, step := range steps {
		sandbox.ResetRequests()
		r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path, "architectures="+step.input)
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"revision": "1", "revision-created": step.created})
		if got := sandbox.Revisions(harness.Charm, harness.FileResource)[0].Architectures(); !cmp.Equal(got, step.want) {
			t.Errorf("architectures %q are recorded as %q, want %q", step.input, got, step.want)
		}
		if sent := harness.Changes(sandbox); len(sent) != step.changes {
			t.Errorf("architectures %q took %d changes, want %d:\n%s", step.input, len(sent), step.changes,
				strings.Join(sent, "\n"))
		}
	}
}

// TestFileMatrix: jobs that upload the same file for one architecture each leave
// the same record in any order, and a run without the input leaves it alone.
func TestFileMatrix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	for _, test := range []struct {
		jobs []string
		want []string
	}{
		{[]string{"amd64", "arm64", ""}, []string{"amd64", "arm64"}},
		{[]string{"arm64", "amd64", "arm64"}, []string{"amd64", "arm64"}},
		{[]string{"arm64", "all", "amd64"}, []string{"all"}},
		{[]string{"all", "amd64", "arm64"}, []string{"all"}},
	} {
		t.Run(strings.Join(test.jobs, ","), func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			var recorded []string
			for n, job := range test.jobs {
				sandbox.ResetRequests()
				r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path, "architectures="+job)
				r.Succeeded(t)
				before, now := recorded, sandbox.Revisions(harness.Charm, harness.FileResource)[0].Architectures()
				recorded = now
				switch {
				case n == 0:
					r.Logged(t, harness.LogCreated(harness.FileResource, "1"))
				case cmp.Equal(before, now):
					r.Logged(t, harness.LogUnchanged(harness.FileResource, "1"))
					if sent := harness.Changes(sandbox); len(sent) > 0 {
						t.Errorf("job %d changed something: %v", n, sent)
					}
				default:
					r.Logged(t, "Revision 1 is now recorded for "+strings.Join(now, ", ")+" instead of "+strings.Join(before, ", "),
						"Revision 1 of resource '"+harness.FileResource+"' for charm '"+harness.Charm+
							"' has this content; its architectures were changed")
					if !strings.Contains(r.Summary, "**1**, with other architectures") {
						t.Errorf("the summary doesn't tell:\n%s", r.Summary)
					}
				}
			}
			if !cmp.Equal(recorded, test.want) {
				t.Errorf("recorded for %v, want %v", recorded, test.want)
			}
		})
	}
}

// TestFileMatrixAtOnce: two jobs that see no revision yet both upload. The store
// makes one revision of them, and the later one adds its architecture.
func TestFileMatrixAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	var other harness.Once
	var earlier harness.Result
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Server == "storage" && other.First() { // by now the list was seen empty
			earlier = harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path, "architectures=amd64")
		}
		return nil
	})
	r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path, "architectures=arm64")
	earlier.Succeeded(t)
	r.Succeeded(t)
	r.Logged(t, "Revision 1 is now recorded for amd64, arm64 instead of amd64")
	made := sandbox.Revisions(harness.Charm, harness.FileResource)
	if len(made) != 1 || !cmp.Equal(made[0].Architectures(), []string{"amd64", "arm64"}) {
		t.Errorf("revisions %+v, want one for both architectures", made)
	}
}

// TestFileMatrixTogether: of jobs that run at once, none undoes what another has
// recorded, however their requests interleave.
func TestFileMatrixTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	for name, options := range map[string]server.Options{
		"":                       {InMemory: true},
		"where lists lag":        {InMemory: true, ListLag: 6},
		"and rejects duplicates": {InMemory: true, ListLag: 3, RejectDuplicates: true},
	} {
		t.Run("store "+name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, options)
			architectures := []string{"amd64", "arm64", "riscv64", "s390x"}
			results := make([]harness.Result, len(architectures))
			var jobs sync.WaitGroup
			for n, architecture := range architectures {
				jobs.Go(func() {
					results[n] = harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path,
						"architectures="+architecture)
				})
			}
			jobs.Wait()
			for _, r := range results {
				r.Succeeded(t)
				r.HasOutputs(t, map[string]string{"revision": "1"})
			}
			made := sandbox.Revisions(harness.Charm, harness.FileResource)
			if len(made) != 1 || !cmp.Equal(made[0].Architectures(), architectures) {
				t.Errorf("revisions %+v, want one for all architectures", made)
			}
		})
	}
}

// TestNotCreated: content that the store has is no new revision, whether its review is
// approved or rejected, and though the list of revisions doesn't show it yet.
func TestNotCreated(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, ListLag: 1000, RejectDuplicates: true})
	for _, want := range []string{"true", "false"} {
		r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"revision": "1", "revision-created": want})
	}
}

// TestFileChangesAfterHashing: the bytes that are sent are those of the digest
// that is reported, or there is no revision.
func TestFileChangesAfterHashing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	var sent harness.Once
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Server == "storage" && sent.First() {
			harness.WriteFile(t, path, "CONTENT")
			return &server.Fault{Status: http.StatusServiceUnavailable}
		}
		return nil
	})
	r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
	r.Failed(t, sandbox, "cannot upload 'model.bin'", "changed after its digest was computed", "let nothing write to it")
}

// TestRevisionZero: 0 is a revision's number like others.
func TestRevisionZero(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, FromZero: true})
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	inputs := []string{"resource=" + harness.FileResource, "filepath=" + path}
	first := harness.Upload(t, sandbox, inputs...)
	first.Succeeded(t)
	first.Logged(t, harness.LogCreated(harness.FileResource, "0"))
	first.HasOutputs(t, map[string]string{
		"revision": "0", "revision-created": "true", "resource-flag": harness.FileResource + ":0",
		"resource-flags": "--resource=" + harness.FileResource + ":0",
	})
	if !strings.Contains(first.Outputs["resources"], `"revision":0`) || !strings.Contains(first.Summary, "**0**, new") {
		t.Errorf("outputs or summary don't tell of revision 0:\n%s\n%s", first.Outputs["resources"], first.Summary)
	}
	again := harness.Upload(t, sandbox, inputs...)
	again.Succeeded(t)
	again.Logged(t, harness.LogUnchanged(harness.FileResource, "0"))
	if diff := cmp.Diff(first.UnchangedOutputs(), again.Outputs); diff != "" {
		t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
	}
}

// TestNewestDeclarationDecides: an older revision of the charm may have declared
// the resource as another type.
func TestNewestDeclarationDecides(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true,
		Charms: []server.Charm{{Name: harness.Charm, Resources: []server.Resource{
			{Name: harness.FileResource, Type: server.TypeImage, CharmRevision: 3},
			{Name: harness.FileResource, Type: server.TypeFile, CharmRevision: 12},
		}}}})
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path).Succeeded(t)
	wrong := harness.Upload(t, sandbox, "resource="+harness.FileResource, "image="+harness.WriteImageArchive(t, 1000, 1))
	if wrong.Exit != 1 || !strings.Contains(harness.ErrorText(wrong), "is of type file, not oci-image") {
		t.Errorf("exit %d, want 1 with the type that the newest revision declares:\n%s", wrong.Exit, wrong.Log)
	}
}

// TestRevisionThatFits: of several revisions with one content, the one whose
// architectures are right is used, and none is changed.
func TestRevisionThatFits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	sandbox.Fault(listed(`{"revisions":[` + listedFor(1, "content", "arm64") + `,` +
		listedFor(2, "content", "amd64") + `,` +
		listedFor(3, "content", "riscv64") + `,` + listedFor(4, "other", "arm64") + `]}`))
	for architecture, revision := range map[string]string{"arm64": "1", "amd64": "2", "": "3"} {
		sandbox.ResetRequests()
		r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path, "architectures="+architecture)
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"revision": revision, "revision-created": "false"})
		if sent := harness.Changes(sandbox); len(sent) > 0 {
			t.Errorf("changes for %q: %v", architecture, sent)
		}
	}
}

// listed answers every call for a resource's revisions.
func listed(body string) func(server.Request) *server.Fault {
	return func(r server.Request) *server.Fault {
		if r.Server == "store" && r.Method == http.MethodGet && strings.HasSuffix(r.Path, "/revisions") {
			return &server.Fault{Status: http.StatusOK, Body: body}
		}
		return nil
	}
}

// listedFor returns the revision as the store lists it, with a file of seven bytes for one architecture.
func listedFor(revision int, content, architecture string) string {
	return fmt.Sprintf(`{"revision":%d,"size":7,"sha256":%q,"bases":[{"name":"all","channel":"all",`+
		`"architectures":[%q]}]}`,
		revision, harness.SHA256Of(content), architecture)
}

// TestLostAnswerThenUnreachable: neither error hides the other.
func TestLostAnswerThenUnreachable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	var lost atomic.Bool
	sandbox.Fault(func(r server.Request) *server.Fault {
		switch {
		case r.Server == "store" && r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/revisions"):
			lost.Store(true)
			return &server.Fault{Handle: true, Drop: true}
		case lost.Load():
			return &server.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"3600"}}}
		}
		return nil
	})
	r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
	r.Failed(t, sandbox, "cannot create a revision of resource 'my-file'", "no clear answer", "broke off",
		"cannot list the revisions of resource 'my-file'", "503", "the revision may exist all the same; run this again")

	sandbox.Fault(nil)
	again := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
	again.Succeeded(t)
	again.HasOutputs(t, map[string]string{"revision": "1"})
}

// TestUnreachableStore: the error says what to look at.
func TestUnreachableStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path,
		"store-url=http://"+testkit.ReservePort(t))
	r.Failed(t, sandbox, "connection refused", "check its address and that this machine reaches it", "HTTPS_PROXY",
		"run this again later")
}
