package uploads

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const stopTime = 5 * time.Second

// TestStop: a run that gets a signal, as when a workflow is cancelled, stops
// whatever it waits for.
func TestStop(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 2<<20, 2)
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, strings.Repeat("content", 1000))
	image, file := []string{"resource=" + harness.ImageResource, "image=" + archive},
		[]string{"resource=" + harness.FileResource, "filepath=" + path}
	hang := &server.Fault{Delay: time.Hour}
	at := func(where, method, path string) func(server.Request) bool {
		return func(r server.Request) bool {
			return r.Server == where && r.Method == method && strings.Contains(r.Path, path)
		}
	}
	tests := map[string]struct {
		inputs []string
		at     func(server.Request) bool
		fault  *server.Fault
		want   string
	}{
		"looking at the store": {image, at("store", "GET", "/resources"), hang, "looking for what is there"},
		"looking, between two tries": {image, at("store", "GET", "/revisions"),
			&server.Fault{Status: 503, Header: http.Header{"Retry-After": {"60"}}}, "looking for what is there"},
		"waiting for a bearer token": {image, at("auth", "GET", "/token"), hang, "looking for what is there"},
		"looking in the registry":    {image, at("registry", "GET", "/manifests/"), hang, "looking for what is there"},
		// A blob may be sent while the repository is still being asked: a record's, or a layer that is packed.
		"beginning to send a blob": {image, at("registry", "POST", "/blobs/uploads/"), hang, "no revision was created"},
		"sending a blob":           {image, at("registry", "PATCH", "/blobs/uploads/"), hang, "no revision was created"},
		"sending, between two tries": {image, at("registry", "PATCH", "/blobs/uploads/"),
			&server.Fault{Status: 429, Header: http.Header{"Retry-After": {"60"}}}, "no revision was created"},
		"finishing a blob":             {image, at("registry", "PUT", "/blobs/uploads/"), hang, "no revision was created"},
		"sending the manifest":         {image, at("registry", "PUT", "/manifests/"), hang, "sending the image"},
		"sending the image's text":     {image, at("storage", "POST", ""), hang, "no revision was created"},
		"sending a file":               {file, at("storage", "POST", ""), hang, "no revision was created"},
		"creating the revision":        {file, at("store", "POST", "/revisions"), hang, "may still create"},
		"waiting for the review":       {file, at("store", "GET", "/review"), &server.Fault{}, "may still create"},
		"asking how the review stands": {file, at("store", "GET", "/review"), hang, "may still create"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{NeverReview: true})
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var stopped harness.Once
			var when time.Time
			sandbox.Fault(func(r server.Request) *server.Fault {
				if !test.at(r) {
					return nil
				}
				if stopped.First() {
					time.AfterFunc(100*time.Millisecond, func() { when = time.Now(); stop() })
				}
				return test.fault
			})
			r := harness.UploadContext(ctx, t, sandbox, test.inputs...)
			took := time.Since(when)
			sandbox.Fault(nil)
			r.Failed(t, sandbox, "stopped while ", "terminated", test.want)
			if took > stopTime {
				t.Errorf("stopping took %s", took)
			}
		})
	}
}

// halfEngine has an image and breaks off when it has exported the first half of
// it, or hangs there until the test ends.
func halfEngine(t *testing.T, archive string, half func(http.ResponseWriter, *http.Request)) (host, id string) {
	t.Helper()
	saved, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	name, err := saved.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	config, err := saved.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	content := harness.ReadFile(t, archive)
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/get"):
			_, _ = io.WriteString(w, content[:len(content)/2])
			_ = http.NewResponseController(w).Flush()
			half(w, r)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(inspected(name, config))
		}
	}))
	t.Cleanup(engine.Close)
	return "DOCKER_HOST=tcp://" + engine.Listener.Addr().String(), name.String()
}

// inspected returns the engine's answer to inspecting an image with this ID and config.
func inspected(name v1.Hash, config *v1.ConfigFile) map[string]any {
	return map[string]any{
		"Id": name.String(), "Os": config.OS, "Architecture": config.Architecture, "Size": 1,
		"RootFS": map[string]any{"Type": "layers", "Layers": config.RootFS.DiffIDs},
	}
}

func TestEngineDies(t *testing.T) {
	t.Parallel()
	host, id := halfEngine(t, harness.WriteImageArchive(t, 500_000, 3),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	sandbox := harness.StartSandbox(t, server.Options{})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id, host)
	r.Failed(t, sandbox, id, "cannot pack image")
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("something was sent:\n%s", strings.Join(sent, "\n"))
	}
}

func TestStopWhileCompressing(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var when time.Time
	host, id := halfEngine(t, harness.WriteImageArchive(t, 500_000, 3), func(_ http.ResponseWriter, r *http.Request) {
		time.AfterFunc(100*time.Millisecond, func() { when = time.Now(); stop() })
		<-r.Context().Done()
	})
	sandbox := harness.StartSandbox(t, server.Options{})
	r := harness.UploadContext(ctx, t, sandbox, "resource="+harness.ImageResource, "digest="+id, host)
	r.Failed(t, sandbox, "stopped while compressing layers", "no revision was created")
	if took := time.Since(when); took > stopTime {
		t.Errorf("stopping took %s", took)
	}
}

// TestDiskFull: the folder for temporary files is a file system of its own that
// is too small.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none",
		os.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here: %v: %s", err, out)
	}
	// Of the shells, bash alone passes variables on whose names have a hyphen.
	harness.Need(t, "bash")
	const script = `mount -t tmpfs -o size=1m none "$TMPDIR" && "$0"
		code=$?; find "$TMPDIR" -mindepth 1 | sed 's/^/left behind: /'; exit $code`
	command := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script,
		harness.Program)
	sandbox := harness.StartSandbox(t, server.Options{})
	r := harness.Execute(t, command, sandbox, "resource="+harness.ImageResource,
		"image="+harness.WriteImageArchive(t, 3<<20, 1))
	r.Failed(t, sandbox, "no space left on device", "set TMPDIR", "TMPDIR: ${{ github.workspace }}/tmp")
	if strings.Contains(harness.ErrorText(r), "cannot read") {
		t.Errorf("the disk is called unreadable:\n%s", harness.ErrorText(r))
	}
	if strings.Contains(r.Log, "left behind") {
		t.Errorf("a file was left behind:\n%s", r.Log)
	}
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("something was sent:\n%s", strings.Join(sent, "\n"))
	}
}

// TestRegistryDies: for good, within a layer.
func TestRegistryDies(t *testing.T) {
	t.Parallel()
	sandbox, all := harness.StartBehindProxies(t, server.Options{})
	var dead harness.Once
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method == http.MethodPatch && dead.First() {
			go all["registry"].Close()
			return &server.Fault{AfterBytes: 1000}
		}
		return nil
	})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteImageArchive(t, 2<<20, 2))
	r.Failed(t, sandbox, "connection refused", "run this again later") // while a blob is sent, or asked for
	if !strings.Contains(r.Log, "\nTrying again in ") {
		t.Errorf("the log has no word about the tries:\n%s", r.Log)
	}
}

// TestUnclearAnswers: when nobody knows whether the store made a revision, the
// list is asked before it is tried again.
func TestUnclearAnswers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "content")
	const never = -1 // the review has ended when it is first looked at
	tests := map[string]struct {
		fault   server.Fault
		review  int
		ordered string // requests about the list of revisions
	}{
		"lost":            {server.Fault{Handle: true, Drop: true}, never, "GET POST GET"},
		"lost, in review": {server.Fault{Handle: true, Drop: true}, 3, "GET POST GET POST GET"},
		"lost before":     {server.Fault{Drop: true}, never, "GET POST GET POST GET"},
		"replaced":        {server.Fault{Handle: true, Status: 502, Body: harness.GatewayPage}, never, "GET POST GET"},
		"replaced, in review": {server.Fault{Handle: true, Status: 502, Body: harness.GatewayPage}, 3,
			"GET POST GET POST GET"},
		"replaced before": {server.Fault{Status: 500}, never, "GET POST GET POST GET"},
		"nonsense":        {server.Fault{Handle: true, Status: 200, Body: "{"}, never, "GET POST GET"},
		"empty":           {server.Fault{Handle: true, Status: 200, Body: "{}"}, never, "GET POST GET"},
		"cut": {server.Fault{Handle: true, Status: 200, Header: http.Header{"Content-Length": {"100"}},
			Body: "{"}, never, "GET POST GET"},
		"timed out": {server.Fault{Status: 408}, never, "GET POST GET POST GET"},
		"too many":  {server.Fault{Status: 429, Header: http.Header{"Retry-After": {"2"}}}, never, "GET POST GET POST GET"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true, ReviewDelay: test.review})
			sandbox.Fault(firstCreation(test.fault))
			r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
			r.Succeeded(t)
			r.HasOutputs(t, map[string]string{"revision": "1", "revision-created": "true"})
			if n := len(sandbox.Revisions(harness.Charm, harness.FileResource)); n != 1 {
				t.Errorf("%d revisions, want 1", n)
			}
			if got := strings.Join(askedAbout(sandbox), " "); got != test.ordered {
				t.Errorf("revisions were listed and asked for in the order %q, want %q", got, test.ordered)
			}
		})
	}
}

// TestClearRefusal: is not asked for again.
func TestClearRefusal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "content")
	for _, status := range []int{400, 403, 409, 429} {
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		sandbox.Fault(firstCreation(server.Fault{Status: status, Header: http.Header{"Retry-After": {"86400"}}}))
		r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
		r.Failed(t, sandbox, strconv.Itoa(status))
		if got := strings.Join(askedAbout(sandbox), " "); got != "GET POST" {
			t.Errorf("after %d revisions were listed and asked for in the order %q", status, got)
		}
	}
}

// firstCreation makes the first request for a revision go wrong.
func firstCreation(fault server.Fault) func(server.Request) *server.Fault {
	var once harness.Once
	return func(r server.Request) *server.Fault {
		if r.Server == "store" && r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/revisions") && once.First() {
			return &fault
		}
		return nil
	}
}

// askedAbout are the methods of the requests about the list of revisions.
func askedAbout(sandbox *server.Server) (methods []string) {
	for _, r := range sandbox.Requests() {
		if r.Server == "store" && strings.HasSuffix(r.Path, "/revisions") {
			methods = append(methods, r.Method)
		}
	}
	return methods
}

// TestSilentConnection: a server that takes a request and never answers it is
// given up after a minute, and asked again.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes more than a minute")
	}
	archive := harness.WriteImageArchive(t, 300_000, 1)
	servers := []string{"store", "registry", "auth", "storage"}
	harness.AllAtOnce(t, len(servers), func(t *testing.T, n int) {
		t.Helper()
		sandbox := harness.StartSandbox(t, server.Options{})
		var once harness.Once
		sandbox.Fault(func(r server.Request) *server.Fault {
			if r.Server == servers[n] && once.First() {
				return &server.Fault{Delay: time.Hour}
			}
			return nil
		})
		began := time.Now()
		r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"revision": "1"})
		if !strings.Contains(r.Log, "nothing from ") {
			t.Errorf("the log has no word about the %s:\n%s", servers[n], harness.WithoutMasks(r.Log))
		}
		if took := time.Since(began); took > 80*time.Second {
			t.Errorf("the run took %s", took)
		}
	})
}
