package sources

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestPasswordIsForOneRegistry: with lines that name two registries, nobody is asked anything before it is said which
// of them the password is for.
func TestPasswordIsForOneRegistry(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	login := []string{"source-username=reader", "source-password=" + password}
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	one, two := &harness.Witness{Answer: guardedBy(password, holder)}, &harness.Witness{Answer: holder}
	hostOne, hostTwo := harness.HostOf(harness.Serve(t, one)), harness.HostOf(harness.Serve(t, two))
	plain := harness.HostOf(harness.Serve(t, holder))
	lines := []string{
		hostOne + "/one@" + harness.Push(t, plain+"/one", harness.PlatformImage(t, "linux/amd64")),
		hostTwo + "/two@" + harness.Push(t, plain+"/two", harness.PlatformImage(t, "linux/arm64")),
	}
	metadata := filepath.Join(t.TempDir(), "charmcraft.yaml")
	harness.WriteFile(t, metadata, fmt.Sprintf("name: %s\nresources:\n  %s: {type: oci-image, upstream-source: \"%s\"}\n",
		harness.Charm, harness.ImageResource, lines[0]))

	for name, inputs := range map[string][]string{
		"digests":  {"resource=" + harness.ImageResource, harness.ImageLines(lines...)},
		"tags":     {"resource=" + harness.ImageResource, harness.ImageLines(hostOne+"/one:latest", hostTwo+"/two:latest")},
		"metadata": {"metadata=" + metadata},
		"nonsense": {"resource=" + harness.ImageResource, harness.ImageLines(lines...), "source-registry=https://" + hostOne},
	} {
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		r := harness.Upload(t, sandbox, append(inputs, login...)...)
		r.Failed(t, sandbox, "source-registry")
		if heard := append(one.All(), two.All()...); len(heard) > 0 || len(sandbox.Requests()) > 0 {
			t.Fatalf("%s: requests before the complaint: %q, %v", name, heard, sandbox.Requests())
		}
	}
	for name, inputs := range map[string][]string{
		"lines":    {"resource=" + harness.ImageResource, harness.ImageLines(lines...)},
		"metadata": {"metadata=" + metadata},
	} {
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		r := harness.Upload(t, sandbox, append(append(inputs, login...), "source-registry="+hostOne)...)
		r.Succeeded(t)
		for _, leak := range harness.Leaks(t, []string{password}, r) {
			t.Errorf("%s: %s", name, leak)
		}
	}
	two.HeardNone(t, "the registry that source-registry doesn't name", []string{"Authorization"})
}

// TestPasswordBesideUnreadLine: a line that can't be read may be the one that names the password's registry.
func TestPasswordBesideUnreadLine(t *testing.T) {
	t.Parallel()
	const password = "battery-staple"
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	one := &harness.Witness{Answer: guardedBy(password, holder)}
	tagged := harness.HostOf(harness.Serve(t, one)) + "/one:latest"
	for _, unread := range []string{"docker:example.com/two@" + harness.SomeDigest, "example.com/two@sha256:123",
		"https://example.com/two"} {
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, harness.ImageLines(tagged, unread),
			"source-username=reader", "source-password="+password)
		r.Failed(t, sandbox, tagged, unread)
		one.HeardNone(t, "the registry of another line", []string{"Authorization"})
	}
}

// guardedBy asks for a user's password.
func guardedBy(password string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="source"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// TestPasswordInName: what is a password by mistake is shown nowhere.
func TestPasswordInName(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	for _, name := range []string{
		"reader:" + password + "@ghcr.io/my-org/image@" + harness.SomeDigest,
		"docker://reader:" + password + "@ghcr.io/my-org/image:1.0",
		"https://reader:" + password + "@ghcr.io/my-org/image@" + harness.SomeDigest,
	} {
		metadata := filepath.Join(t.TempDir(), "charmcraft.yaml")
		harness.WriteFile(t, metadata, fmt.Sprintf("name: %s\nresources:\n  %s: {type: oci-image, upstream-source: \"%s\"}\n",
			harness.Charm, harness.ImageResource, name))
		for _, inputs := range [][]string{
			{"resource=" + harness.ImageResource, "image=" + name},
			{"resource=" + harness.ImageResource, "image=" + name + " platform=linux/amd64"},
			{"metadata=" + metadata},
		} {
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, inputs...)
			r.Outputs = nil // with metadata, the list of none
			r.Failed(t, sandbox, "***@ghcr.io/my-org/image", "give source-username and source-password")
			for _, leak := range harness.Leaks(t, []string{password}, r) {
				t.Error(leak)
			}
			if !strings.Contains(r.Log, harness.MaskCommand+password+"\n") {
				t.Error("the runner was not asked to hide the password")
			}
		}
	}
}

// troubled is a registry in which things go wrong in passing.
type troubled struct {
	http.Handler

	mu     sync.Mutex
	faults map[string]http.HandlerFunc // by path, the first time
	asked  map[string]int              // GETs, by path
	ranges []string                    // that blobs were asked for
	sent   int                         // bytes
}

func (r *troubled) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	fault := r.faults[req.URL.Path]
	delete(r.faults, req.URL.Path)
	r.asked[req.URL.Path]++
	if ranged := req.Header.Get("Range"); ranged != "" {
		r.ranges = append(r.ranges, ranged)
	}
	r.mu.Unlock()
	if fault != nil && req.Method == http.MethodGet {
		fault(w, req)
		return
	}
	r.Handler.ServeHTTP(&counter{w, r}, req)
}

// counter counts what is written.
type counter struct {
	http.ResponseWriter
	of *troubled
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.of.mu.Lock()
	c.of.sent += n
	c.of.mu.Unlock()
	return n, err
}

// startTroubled starts a troubled registry without faults, and returns it with its host and port.
func startTroubled(t *testing.T) (r *troubled, host string) {
	t.Helper()
	r = &troubled{
		Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		faults:  map[string]http.HandlerFunc{}, asked: map[string]int{},
	}
	return r, harness.HostOf(harness.Serve(t, r))
}

// TestSourceRegistryInTrouble: what fails once, on a manifest or a blob, is tried again.
func TestSourceRegistryInTrouble(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500, 502, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			source, host := startTroubled(t)
			img := harness.PlatformImage(t, "linux/amd64")
			digest := harness.Push(t, host+"/image", img)
			fault := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(status)
			}
			paths := []string{"/v2/image/manifests/" + digest, "/v2/image/blobs/" + harness.FirstLayer(t, img).Digest.String()}
			for _, path := range paths {
				source.faults[path], source.asked[path] = fault, 0
			}
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+host+"/image@"+digest)
			r.Succeeded(t)
			r.HasOutputs(t, map[string]string{"remote-digest": digest, "revision": "1"})
			for _, path := range paths {
				if source.asked[path] != 2 {
					t.Errorf("%s was asked for %d times, want twice", path, source.asked[path])
				}
			}
		})
	}
}

// TestSourceBlobBreaks: a blob that breaks off is read on from there.
func TestSourceBlobBreaks(t *testing.T) {
	t.Parallel()
	const size, piece, breaks = 20 << 20, 3 << 20, 4
	source, host := startTroubled(t)
	layer, err := random.Layer(size, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(harness.PlatformImage(t, "linux/amd64"), layer)
	if err != nil {
		t.Fatal(err)
	}
	digest := harness.Push(t, host+"/image", img)
	hash, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	path := "/v2/image/blobs/" + hash.String()
	left := breaks
	var breakOff http.HandlerFunc
	breakOff = func(w http.ResponseWriter, req *http.Request) {
		if left--; left > 0 {
			source.mu.Lock()
			source.faults[path] = breakOff
			source.mu.Unlock()
		}
		source.Handler.ServeHTTP(&cutOff{&counter{w, source}, piece}, req)
	}
	source.faults[path], source.sent = breakOff, 0
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+host+"/image@"+digest)
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"remote-digest": digest, "revision": "1"})
	if len(source.ranges) != breaks {
		t.Errorf("after %d breaks, these ranges were asked for: %q", breaks, source.ranges)
	}
	if most := size + size/4; source.sent > most {
		t.Errorf("the registry sent %d bytes, want %d at most", source.sent, most)
	}
}

// TestSourceRefusesLater: what a source registry answers while its image is being read isn't the answer of the charm's
// registry, however alike they are.
func TestSourceRefusesLater(t *testing.T) {
	t.Parallel()
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	layer, err := random.Layer(3<<20, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(harness.PlatformImage(t, "linux/amd64"), layer)
	if err != nil {
		t.Fatal(err)
	}
	open := harness.HostOf(harness.Serve(t, holder))
	digest := harness.Push(t, open+"/image", img)
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	index := harness.Push(t, open+"/image", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}))
	last := manifest.Layers[len(manifest.Layers)-1].Digest.String()
	for name, test := range map[string]struct {
		image, refused string
		after          int // bytes that come before a break, 0 for none
	}{
		"layer":             {digest, "blobs/" + last, 0},
		"rest of a layer":   {digest, "blobs/" + last, 2 << 20},
		"config":            {digest, "blobs/" + manifest.Config.Digest.String(), 0},
		"image of an index": {index, "manifests/" + digest, 0},
	} {
		for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				host := harness.HostOf(harness.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch {
					case r.URL.Path != "/v2/image/"+test.refused:
						holder.ServeHTTP(w, r)
					case test.after > 0 && r.Header.Get("Range") == "":
						holder.ServeHTTP(&cutOff{w, test.after}, r)
					default:
						w.Header().Set("Content-Type", "application/json")
						w.WriteHeader(status)
						_, _ = io.WriteString(w, `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"not for you"}]}`)
					}
				})))
				sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
				r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+host+"/image@"+test.image,
					harness.NoEngine(t))
				r.Failed(t, sandbox, host+"/image", "not for you", "check ")
				if text := harness.AnnotationOf(r, "error"); strings.Contains(text, "Charmhub gave") ||
					strings.Contains(text, "lost the upload") {
					t.Errorf("the charm's registry is blamed: %s", text)
				}
				harness.SentNoManifest(t, sandbox)
			})
		}
	}
}

// cutOff breaks the connection after so many bytes.
type cutOff struct {
	http.ResponseWriter
	left int
}

func (c *cutOff) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// TestSourceBlobElsewhere: a registry that keeps its blobs at another host is followed there, without what is secret.
func TestSourceBlobElsewhere(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	digest := harness.Push(t, harness.HostOf(harness.Serve(t, holder))+"/image", harness.PlatformImage(t, "linux/amd64"))
	elsewhere := &harness.Witness{Answer: holder}
	// A name, so that it is another host and not just another port.
	storage := strings.Replace(harness.Serve(t, elsewhere), "127.0.0.1", "localhost", 1)
	host := harness.HostOf(harness.Serve(t, guardedBy(password,
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				http.Redirect(w, r, storage+r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			holder.ServeHTTP(w, r)
		}))))
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+host+"/image@"+digest,
		"source-username=reader", "source-password="+password)
	r.Succeeded(t)
	elsewhere.HeardNone(t, "the blobs' host", []string{"Authorization", password})
	if len(elsewhere.All()) == 0 {
		t.Error("the blobs' host was asked nothing")
	}
}

// TestRepositoryIsAskedFirst: of an image that the charm's repository holds, its own registry is asked nothing; of
// another, its errors are errors.
func TestRepositoryIsAskedFirst(t *testing.T) {
	t.Parallel()
	source, host := startTroubled(t)
	index := harness.PlatformIndex(t, "linux/amd64", "linux/arm64")
	digest := harness.Push(t, host+"/image", index)
	image := "image=" + host + "/image@" + digest
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, image)
	first.Succeeded(t)
	source.mu.Lock()
	clear(source.asked)
	source.mu.Unlock()
	harness.Rerun(t, sandbox, first, image)
	if len(source.asked) > 0 {
		t.Errorf("the source registry was asked: %v", source.asked)
	}
}

// TestEngineCopyOfNamedImage: where the registry of an image refuses access, an engine that keeps manifests may have
// the same image. Nothing else stands in for it, least of all one platform for an index.
func TestEngineCopyOfNamedImage(t *testing.T) {
	t.Parallel()
	engine := harness.StartContainerdStore(t)
	source := &closable{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	host := harness.HostOf(harness.Serve(t, source))
	one := host + "/one@" + harness.Push(t, host+"/one", harness.PlatformImage(t, "linux/amd64"))
	index := host + "/index@" + harness.Push(t, host+"/index", harness.PlatformIndex(t, "linux/amd64", "linux/arm64"))
	for _, image := range []string{one, index} {
		harness.Tool(t, "env", engine, "docker", "pull", "--quiet", "--platform", "linux/amd64", image)
	}
	for _, test := range []struct {
		status int
		image  string
		want   []string // in the error; nil for none
	}{
		{http.StatusUnauthorized, one, nil},
		{http.StatusForbidden, one, nil},
		{http.StatusUnauthorized, index, []string{index, "of several platforms", "give its ID"}},
		{http.StatusServiceUnavailable, one, []string{one, "503"}},
		{http.StatusNotFound, one, []string{one, "check that name, tag and digest"}},
	} {
		source.close(test.status)
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		r := harness.Upload(t, sandbox, engine, "resource="+harness.ImageResource, "image="+test.image)
		if test.want != nil {
			r.Failed(t, sandbox, test.want...)
			harness.SentNoManifest(t, sandbox)
			continue
		}
		r.HasOutputs(t, map[string]string{"revision": "1", "remote-digest": test.image[strings.Index(test.image, "@")+1:]})
		if warning := harness.AnnotationOf(r, "warning"); !strings.Contains(warning, "using the container engine's copy") {
			t.Errorf("the warning is %q", warning)
		}
	}
}

// TestUnpackedCopyOfNamedImage: an engine that keeps no manifests can't tell an index from an image.
func TestUnpackedCopyOfNamedImage(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker")
	source := &closable{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	host := harness.HostOf(harness.Serve(t, source))
	image := host + "/index@" + harness.Push(t, host+"/index", harness.PlatformIndex(t, "linux/amd64", "linux/arm64"))
	harness.Tool(t, "docker", "pull", "--quiet", "--platform", "linux/amd64", image)
	t.Cleanup(func() { _ = exec.Command("docker", "image", "rm", image).Run() })
	id := harness.Tool(t, "docker", "image", "inspect", "--format", "{{.Id}}", image)
	source.close(http.StatusUnauthorized)
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
	r.Failed(t, sandbox, image, "give source-username and source-password", "of several platforms", id)
	harness.SentNoManifest(t, sandbox)
}

// closable is a registry that can be made to refuse.
type closable struct {
	http.Handler

	mu     sync.Mutex
	status int
}

// close makes the registry answer every later request except /v2/ with the status. A status of 0 opens it again.
func (c *closable) close(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

func (c *closable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	status := c.status
	c.mu.Unlock()
	if status != 0 && r.URL.Path != "/v2/" {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(status)
		return
	}
	c.Handler.ServeHTTP(w, r)
}

// TestSourceErrorsSayWhatToDo: each in its last words.
func TestSourceErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	open, closed := harness.HostOf(harness.Serve(t, holder)),
		harness.HostOf(harness.Serve(t, guardedBy("correct-horse", holder)))
	digest := harness.Push(t, open+"/image", harness.PlatformImage(t, "linux/amd64"))
	stray := harness.HostOf(harness.Serve(t, harness.Guarded("nothing",
		`Bearer realm="http://auth.example/token",service="x"`, holder)))
	metadata := func(source string) string {
		path := filepath.Join(t.TempDir(), "charmcraft.yaml")
		harness.WriteFile(t, path, fmt.Sprintf("name: %s\nresources:\n  %s: {type: oci-image, upstream-source: \"%s\"}\n",
			harness.Charm, harness.ImageResource, source))
		return "metadata=" + path
	}
	login := []string{
		"401 Unauthorized", "give source-username and source-password", "source-registry: " + closed,
		"docker login " + closed,
	}
	for name, test := range map[string]struct{ inputs, want []string }{
		"no login":           {[]string{"resource=" + harness.ImageResource, "image=" + closed + "/image@" + digest}, login},
		"no login, upstream": {[]string{metadata(closed + "/image:latest")}, append(login, closed+"/image:latest")},
		"wrong login": {[]string{"resource=" + harness.ImageResource, "image=" + closed + "/image@" + digest,
			"source-username=x", "source-password=wrong-password"},
			[]string{"401 Unauthorized", "check that the credentials given for " + closed + " are valid and may pull image"}},
		"token without TLS": {[]string{"resource=" + harness.ImageResource, "image=" + stray + "/image@" + digest,
			"source-username=x", "source-password=wrong-password"},
			[]string{"refused to send a request to http://auth.example", "only https is safe"}},
		"no such digest": {[]string{"resource=" + harness.ImageResource,
			"image=" + open + "/image@" + harness.SomeDigest},
			[]string{open + "/image@" + harness.SomeDigest, "MANIFEST_UNKNOWN", "check that name, tag and digest are right"}},
		"no such tag": {[]string{metadata(open + "/image:9")},
			[]string{open + "/image:9", "MANIFEST_UNKNOWN", "check that name, tag and digest are right"}},
		"no such repository": {[]string{metadata(open + "/other:latest")},
			[]string{open + "/other:latest", "NAME_UNKNOWN", "check that name, tag and digest are right"}},
		"source that is none": {[]string{metadata("Not an image")},
			[]string{"upstream-source", "Not an image", "give a digest, name@sha256:…"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, append(test.inputs, harness.NoEngine(t))...)
			r.Outputs = nil // with metadata, the list of none
			r.Failed(t, sandbox, test.want...)
		})
	}
}
