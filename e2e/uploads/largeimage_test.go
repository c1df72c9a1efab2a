package uploads

import (
	"archive/tar"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestLargeImage: memory doesn't grow with the image, and no file is as large
// as a layer is before compression. UPLOAD_RESOURCE_E2E_MB makes the image
// larger than the usual 256 MB. It runs with many cores configured, and alone, for
// figures that mean something.
func TestLargeImage(t *testing.T) {
	harness.Need(t, "docker", "prlimit")
	megabytes := 256
	if text := os.Getenv("UPLOAD_RESOURCE_E2E_MB"); text != "" {
		var err error
		if megabytes, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	id := importLayer(t, int64(megabytes)<<20)
	sandbox := harness.StartSandbox(t, server.Options{})

	began := time.Now()
	// A file beyond half the layer's size ends the process.
	limited := exec.CommandContext(t.Context(), "prlimit", "--fsize="+strconv.Itoa(megabytes<<19), harness.Program)
	peak := harness.MeasurePeak(t, limited)
	r := harness.Execute(t, limited, sandbox, "resource="+harness.ImageResource, "digest="+id, "GOMAXPROCS=32")
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "true", "source-digest": id})
	t.Logf("%d MB in %s, at most %d MB of memory", megabytes, time.Since(began).Round(time.Millisecond), peak())
	if peak() > harness.MaxMemory {
		t.Errorf("the run took %d MB of memory, want at most %d", peak(), harness.MaxMemory)
	}
}

// importLayer makes an image of one layer with so many bytes, which compress
// to less than half, in the engine.
func importLayer(t *testing.T, size int64) string {
	t.Helper()
	layer, content := io.Pipe()
	go func() { content.CloseWithError(writeLayer(content, size)) }()
	command := exec.CommandContext(t.Context(), "docker", "import", "-")
	command.Stdin = layer
	id, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	harness.RemoveImage(t, strings.TrimSpace(string(id)))
	return strings.TrimSpace(string(id))
}

// writeLayer writes a layer with one file of at least size bytes that compress slowly, by about five eighths.
func writeLayer(w io.Writer, size int64) error {
	files := tar.NewWriter(w)
	if err := files.WriteHeader(&tar.Header{Name: "large", Mode: 0o600, Size: size}); err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{})
	block := make([]byte, 16<<10)
	for ; size > 0; size -= int64(len(block)) {
		_, _ = noise.Read(block)
		for i := range block {
			block[i] &= 7 // three bits of eight: slow to compress, like programs
		}
		if _, err := files.Write(block); err != nil {
			return err
		}
	}
	return files.Close()
}
