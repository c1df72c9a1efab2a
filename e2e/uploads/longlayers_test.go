package uploads

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/faultproxy"
)

// writeOneLayer writes an image of one layer as an OCI layout, and returns its
// folder and how many bytes its blobs have: the layer's about those given.
func writeOneLayer(t *testing.T, size int64) (dir string, bytes int64) {
	t.Helper()
	return writeLayers(t, size, 1)
}

// writeLayers is writeOneLayer for several layers of a size.
func writeLayers(t *testing.T, size, layers int64) (dir string, bytes int64) {
	t.Helper()
	img := harness.RandomImage(t, size, layers)
	dir = filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	bytes = manifest.Config.Size
	for _, layer := range manifest.Layers {
		bytes += layer.Size
	}
	return dir, bytes
}

// sentOfBlobs is how many bytes of blobs the registry was sent.
func sentOfBlobs(sandbox *server.Server) (bytes int64) {
	for _, r := range sandbox.Requests() {
		if strings.Contains(r.Path, "/blobs/uploads/") {
			bytes += r.BodyBytes
		}
	}
	return bytes
}

// TestTokensExpireWithinLayers: bearer tokens that last a fraction of the time
// that the layers take are renewed, and no byte is sent twice.
// UPLOAD_RESOURCE_E2E_LAYERS is the time for the layers, else 8s.
func TestTokensExpireWithinLayers(t *testing.T) {
	t.Parallel()
	takes := 8 * time.Second
	if text := os.Getenv("UPLOAD_RESOURCE_E2E_LAYERS"); text != "" {
		var err error
		if takes, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	// bytes a second of each connection; more layers than are sent at once, so they take two rounds
	const rate, layers = 1_500_000, 6
	image, bytes := writeLayers(t, int64(takes.Seconds()*rate)/2, layers)
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		options.TokenLife = 3 * time.Second
		sandbox, all := harness.StartBehindProxies(t, options)
		all["registry"].Add(faultproxy.Fault{Kind: faultproxy.Bandwidth, Bytes: rate})
		r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "true"})
		const record = 1000 // bytes, at most, of the locations record's blobs
		if sent := sentOfBlobs(sandbox); sent < bytes || sent > bytes+record {
			t.Errorf("%d bytes were sent of blobs with %d", sent, bytes)
		}
		if tokens := harness.CountAnswered(sandbox, "/token"); tokens < 3 {
			t.Errorf("the token service gave %d tokens, want at least 3: none expired while the layers were sent", tokens)
		}
	})
}

// TestResetsWithinLayer: an upload goes on from where the registry says that it
// stands.
func TestResetsWithinLayer(t *testing.T) {
	t.Parallel()
	const resets = 5
	image, bytes := writeOneLayer(t, 100<<20)
	sandbox, all := harness.StartBehindProxies(t, server.Options{})
	all["registry"].Add(faultproxy.Fault{Kind: faultproxy.Bandwidth, Bytes: 10_000_000})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		// A reset meets a chunk only if something moves while it is there.
		asked := func() int64 { return int64(askedOfUploads(sandbox)) }
		for waitFor(ctx, func() bool { n := asked(); return n < resets && sentOfBlobs(sandbox) > bytes*(20*n+13)/100 }) {
			heal := all["registry"].Add(faultproxy.Fault{Kind: faultproxy.Reset})
			time.Sleep(50 * time.Millisecond)
			heal()
			time.Sleep(400 * time.Millisecond)
		}
	}()
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
	cancel()
	<-done
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "true"})
	sent, resumed := sentOfBlobs(sandbox), askedOfUploads(sandbox)
	if sent > bytes*11/10 || resumed < resets {
		t.Errorf("%d bytes were sent of blobs with %d, want at most a tenth more; %d times the registry was asked where it "+
			"stands, want at least %d",
			sent, bytes, resumed, resets)
	}
	t.Logf("%.3f bytes sent for each of the layer, over %d resets", float64(sent)/float64(bytes), resumed)
}

// waitFor looks every few milliseconds; it is false when ctx ends first.
func waitFor(ctx context.Context, condition func() bool) bool {
	for !condition() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(3 * time.Millisecond):
		}
	}
	return true
}

// askedOfUploads counts how often the registry was asked how far an upload is.
func askedOfUploads(sandbox *server.Server) (n int) {
	for _, r := range sandbox.Requests() {
		if r.Method == http.MethodGet && strings.Contains(r.Path, "/blobs/uploads/") {
			n++
		}
	}
	return n
}
