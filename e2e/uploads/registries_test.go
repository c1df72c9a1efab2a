package uploads

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestUnknownImage: an image that neither a record nor a tag leads to is packed again. The registry isn't asked for its
// ID as a manifest, which some can't answer.
func TestUnknownImage(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		for name, fault := range map[string]*server.Fault{
			"pushed":      nil,
			"interrupted": {Status: http.StatusForbidden},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				sandbox := harness.StartSandbox(t, options)
				inputs := []string{"resource=" + harness.ImageResource, "image=" + harness.WriteImageArchive(t, 1000, 2),
					"locations-record=false"}
				sandbox.Fault(func(r server.Request) *server.Fault {
					if r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/") {
						return fault
					}
					return nil
				})
				if first := harness.Upload(t, sandbox, inputs...); fault == nil {
					first.Succeeded(t)
				} else {
					first.Failed(t, sandbox)
				}
				sandbox.Fault(nil)
				sandbox.ResetRequests()
				again := harness.Upload(t, sandbox, inputs...)
				again.Succeeded(t)
				again.HasOutputs(t, map[string]string{"revision": "1"})
				config := "/manifests/" + again.Outputs["source-digest"]
				asked := 0
				for _, r := range sandbox.Requests() {
					if strings.HasSuffix(r.Path, config) {
						asked++
					}
				}
				if asked != 0 {
					t.Errorf("the registry was asked %d times for %s", asked, config)
				}
				harness.IsComplete(t, sandbox, again.Outputs["remote-digest"])
			})
		}
	})
}

// TestBreaksWithinLayer: an upload goes on as long as bytes get through between two breaks. Distribution 3 keeps what
// it was sent, distribution 2 nothing of an upload that broke: there the last break decides how much is sent.
func TestBreaksWithinLayer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		breaks, between, size int64
		most                  map[string]float64 // bytes that are sent for each of the layer, by registry
	}{
		"10 breaks": {10, 5 << 20, 60 << 20, map[string]float64{"": 1.1, "docker-registry": 2}},
		"one late":  {1, 90 << 20, 100 << 20, map[string]float64{"": 1.15, "docker-registry": 2}},
	} {
		image, bytes := writeOneLayer(t, test.size)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			harness.EachRegistry(t, func(t *testing.T, options server.Options) {
				t.Helper()
				sandbox := harness.StartSandbox(t, options)
				var mu sync.Mutex
				broken := int64(0)
				sandbox.Fault(func(r server.Request) *server.Fault {
					mu.Lock()
					defer mu.Unlock()
					if r.Method != http.MethodPatch || broken == test.breaks {
						return nil
					}
					left := (broken+1)*test.between - sentOfBlobs(sandbox)
					if left > chunkOf(t, r) {
						return nil
					}
					broken++
					return &server.Fault{AfterBytes: max(left, 1)}
				})
				r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
				r.Succeeded(t)
				r.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "true"})
				sent := float64(sentOfBlobs(sandbox)) / float64(bytes)
				t.Logf("%.2f bytes sent for each of the layer, over %d breaks", sent, broken)
				if most := test.most[options.Registry]; broken != test.breaks || sent > most {
					t.Errorf("%.2f bytes were sent for each of the layer over %d breaks, want at most %.2f over %d", sent, broken,
						most, test.breaks)
				}
				harness.IsComplete(t, sandbox, r.Outputs["remote-digest"])
			})
		})
	}
}

// chunkOf is how many bytes a request says that it brings of a blob.
func chunkOf(t *testing.T, r server.Request) int64 {
	t.Helper()
	var first, last int64
	if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "%d-%d", &first, &last); err != nil {
		t.Errorf("the range of a chunk, %q: %v", r.Header.Get("Content-Range"), err)
	}
	return last - first + 1
}

// TestChunkWithoutProgress: a registry that takes chunks and keeps none is given up.
func TestChunkWithoutProgress(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{})
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method != http.MethodPatch {
			return nil
		}
		return &server.Fault{Status: http.StatusAccepted, Header: http.Header{"Range": {"0-0"}}}
	})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteImageArchive(t, 2<<20, 1))
	r.Failed(t, sandbox, "sending the blob sha256:", "given up after 6 tries without progress",
		"no more bytes than before")
}

// withoutConsent passes connections on to a server, without its answers to "Expect: 100-continue".
func withoutConsent(t *testing.T, to string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			registry, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(registry, client)
				_ = registry.Close()
			}()
			go func() {
				defer func() { _ = client.Close() }()
				buffer := make([]byte, 64<<10)
				for {
					n, err := registry.Read(buffer)
					// An answer that asks for the rest comes alone.
					if _, writeErr := client.Write(bytes.ReplaceAll(buffer[:n], []byte("HTTP/1.1 100 Continue\r\n\r\n"),
						nil)); err != nil || writeErr != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestExpectWithoutAnswer: a front that leaves "Expect: 100-continue" unanswered is asked no more once that is known,
// since each such question costs a second. None is asked while the token is fresh.
func TestExpectWithoutAnswer(t *testing.T) {
	t.Parallel()
	const layers, atOnce = 9, 8 // as many as are sent to a slow registry
	image, _ := writeLayers(t, 2<<20, layers)
	for name, test := range map[string]struct {
		tokenLife   time.Duration
		least, most int // requests that ask
	}{
		"fresh": {5 * time.Minute, 0, 0},
		"aged":  {4 * time.Second, 1, atOnce},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			harness.EachRegistry(t, func(t *testing.T, options server.Options) {
				t.Helper()
				options.TokenLife = test.tokenLife
				options.Behind = func(name, addr string) (string, error) {
					if name == "registry" {
						addr = withoutConsent(t, addr)
					}
					return addr, nil
				}
				sandbox := harness.StartSandbox(t, options)
				sandbox.Fault(func(r server.Request) *server.Fault {
					if r.Method == http.MethodPost && r.Server == "registry" && test.least > 0 {
						return &server.Fault{Delay: 2100 * time.Millisecond} // more than half of a token's life
					}
					return nil
				})
				r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
				r.Succeeded(t)
				blobs, asked := 0, 0
				for _, r := range sandbox.Requests() {
					if r.Method == http.MethodPatch && r.Status != http.StatusUnauthorized {
						blobs++
						if r.Header.Get("Expect") != "" {
							asked++
						}
					}
				}
				// On a busy machine, a token may end within a request, which is then sent again.
				if blobs < layers || asked < test.least || asked > test.most {
					t.Errorf("%d of %d requests with a layer asked before it was sent, want %d to %d of %d", asked, blobs, test.least,
						test.most, layers)
				}
			})
		})
	}
}

// TestManyPlatforms: nothing about an index is asked twice.
func TestManyPlatforms(t *testing.T) {
	t.Parallel()
	const platforms = 300
	names := make([]string, platforms)
	for n := range names {
		names[n] = fmt.Sprintf("linux/amd64/v%d", n)
	}
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource,
		"image="+harness.WriteRock(t, harness.PlatformIndex(t, names...)))
	r.Succeeded(t)
	requests := map[string]int{}
	kinds := map[string]int{}
	for _, r := range sandbox.Requests() {
		if r.Server != "registry" || r.Status == http.StatusUnauthorized {
			continue
		}
		place, _, _ := strings.Cut(r.Path, "sha256:")
		if strings.Contains(r.Path, "/uploads/") {
			place, _, _ = strings.Cut(r.Path, "uploads/")
		} else {
			requests[r.Method+" "+r.Path]++
		}
		kinds[r.Method+" "+place]++
	}
	t.Logf("%d requests: %v", len(sandbox.Requests()), kinds)
	for request, n := range requests {
		if n > 1 {
			t.Errorf("%d times %s", n, request)
		}
	}
	// Of each platform: is its manifest there, its config, its layer? Two requests for each blob, and one for the
	// manifest. Few more for the whole.
	if n := len(sandbox.Requests()); n > platforms*8+50 {
		t.Errorf("%d requests for %d platforms", n, platforms)
	}
}

// TestFileChangesWhileItIsSent: such a file is sent once, and becomes no revision.
func TestFileChangesWhileItIsSent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, strings.Repeat("0123456789abcdef", 2<<20))
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	var sent atomic.Int64
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Server == "storage" {
			sent.Add(1)
			file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = file.WriteString("more")
				err = errors.Join(err, file.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
	r.Failed(t, sandbox, "the content grew while it was sent")
	if n := sent.Load(); n != 1 {
		t.Errorf("the file was sent %d times, want once", n)
	}
}

// TestRegistryBelowPath: the registry may be found below a path.
func TestRegistryBelowPath(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		sandbox := harness.StartSandbox(t, options)
		at, err := url.Parse(sandbox.RegistryURL)
		if err != nil {
			t.Fatal(err)
		}
		front := http.NewServeMux()
		front.Handle("/a/mirror/", http.StripPrefix("/a/mirror", httputil.NewSingleHostReverseProxy(at)))
		image := "image=" + harness.WriteImageArchive(t, 400_000, 2)
		place := "registry-url=" + harness.Serve(t, front) + "/a/mirror/"
		first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, image, place)
		first.Succeeded(t)
		_, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
		first.HasOutputs(t, map[string]string{"revision": "1",
			"remote-image": repository + "@" + first.Outputs["remote-digest"]})
		harness.Rerun(t, sandbox, first, image, place)
		harness.IsComplete(t, sandbox, first.Outputs["remote-digest"])
	})
}
