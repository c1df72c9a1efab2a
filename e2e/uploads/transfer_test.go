package uploads

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestMount: what is in another repository of the charm's registry goes from
// there without a transfer.
func TestMount(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testMount)
}

// testMount uploads an image that another resource of the registry has, and checks that its blobs are mounted and not
// sent.
func testMount(t *testing.T, options server.Options) {
	t.Helper()
	sandbox := harness.StartSandboxWithOther(t, options)
	rock := harness.WriteRock(t, harness.PlatformIndex(t, "linux/amd64", "linux/arm64"))
	other := harness.Upload(t, sandbox, "resource="+harness.OtherResource, "image="+rock)
	other.Succeeded(t)
	login, _ := harness.RegistryLogin(t, sandbox, harness.OtherResource)
	sandbox.ResetRequests()
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+other.Outputs["remote-image"],
		"DOCKER_CONFIG="+login)
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"remote-digest": other.Outputs["remote-digest"], "uploaded": "true",
		"revision": "1"})
	mounted, ofRecord := 0, harness.RecordBlobs(t, sandbox)
	for _, request := range sandbox.Requests() {
		if strings.Contains(request.Path, "/blobs/uploads/") && request.BodyBytes > 0 &&
			!ofRecord[request.Query.Get("digest")] {
			t.Errorf("bytes were sent: %s", request)
		}
		if request.Query.Get("mount") != "" && request.Status == http.StatusCreated {
			mounted++
		}
	}
	if mounted != 4 {
		t.Errorf("%d blobs were mounted, want the config and the layer of each of two images", mounted)
	}
	harness.IsComplete(t, sandbox, r.Outputs["remote-digest"])
}

// TestTransfer: from registry to registry, an image passes through a memory
// that doesn't grow with it, and through no file. UPLOAD_RESOURCE_E2E_MB makes
// it larger than the usual 100 MB. It runs alone, for figures that mean
// something.
func TestTransfer(t *testing.T) {
	harness.Need(t, "prlimit")
	megabytes := 100
	if text := os.Getenv("UPLOAD_RESOURCE_E2E_MB"); text != "" {
		var err error
		if megabytes, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	sandbox := harness.StartSandbox(t, server.Options{})
	// Files may have the size of what the action tells, and not that of a chunk.
	limited := exec.CommandContext(t.Context(), "prlimit", "--fsize=65536", harness.Program)
	source := newNoise(int64(megabytes) << 20)
	source.halfway = func() []string { return regularFiles(t, harness.Program) }
	image := strings.TrimPrefix(harness.Serve(t, source), "http://") + "/noise@" +
		harness.DigestOf([]byte(source.manifest))

	began := time.Now()
	peak := harness.MeasurePeak(t, limited)
	r := harness.Execute(t, limited, sandbox, "resource="+harness.ImageResource, "image="+image)
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"remote-digest": harness.DigestOf([]byte(source.manifest)), "uploaded": "true",
		"revision": "1"})
	t.Logf("%d MB in %s, at most %d MB of memory", megabytes, time.Since(began).Round(time.Millisecond), peak())
	if peak() >= 100 {
		t.Errorf("the run took %d MB of memory, want less than 100", peak())
	}
	source.mu.Lock()
	defer source.mu.Unlock()
	if source.served != 1 {
		t.Errorf("the layer was read %d times, want once", source.served)
	}
	if len(source.files) > 0 {
		t.Errorf("halfway through the layer these files were open: %v", source.files)
	}
}

// regularFiles returns what files the processes of a program have open, also
// those that were removed. Files of the kernel, which Go's runtime reads its limits from, and
// what has no path don't count.
func regularFiles(t *testing.T, program string) (open []string) {
	t.Helper()
	var links []string
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		if runs, err := os.Readlink(process + "/exe"); err == nil && runs == program {
			more, _ := filepath.Glob(process + "/fd/*")
			links = append(links, more...)
		}
	}
	if len(links) == 0 {
		t.Error("no process with open files was found")
	}
	for _, link := range links {
		target, _ := os.Readlink(link)
		info, err := os.Stat(link)
		if err == nil && info.Mode().IsRegular() && strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/sys/") {
			open = append(open, target)
		}
	}
	return open
}

// noise is a registry with one image, whose one layer is random bytes that are
// made while they are read.
type noise struct {
	size             int64
	config, manifest string
	layer            string          // digest
	halfway          func() []string // called when half of the layer was read

	mu     sync.Mutex // guards what follows
	served int        // how often the layer was
	files  []string   // what halfway returned
}

// newNoise returns a registry whose image has a layer of size random bytes. They are the same each time.
func newNoise(size int64) *noise {
	n := &noise{size: size}
	sum := sha256.New()
	_, _ = io.Copy(sum, n.content())
	n.layer = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	n.config = `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + n.layer + `"]}}`
	n.manifest = fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%d,"digest":%q},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":%d,"digest":%q}]}`,
		len(n.config), harness.DigestOf([]byte(n.config)), size, n.layer)
	return n
}

// content returns a new reader of the layer.
func (n *noise) content() io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{}), n.size)
}

func (n *noise) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/blobs/"+n.layer):
		n.mu.Lock()
		defer n.mu.Unlock()
		n.served++
		content := n.content()
		w.Header().Set("Content-Length", strconv.FormatInt(n.size, 10))
		_, _ = io.CopyN(w, content, n.size/2)
		n.files = n.halfway()
		_, _ = io.Copy(w, content)
	case strings.Contains(r.URL.Path, "/blobs/"):
		_, _ = io.WriteString(w, n.config)
	case strings.Contains(r.URL.Path, "/manifests/"):
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = io.WriteString(w, n.manifest)
	}
}
