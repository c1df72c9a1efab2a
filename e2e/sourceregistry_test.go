package e2e

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

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestPasswordIsForOneRegistry: with lines that name two registries, nobody is
// asked anything before it is said which of them the password is for.
func TestPasswordIsForOneRegistry(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	login := []string{"source-username=reader", "source-password=" + password}
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	one, two := &witness{answer: guardedBy(password, holder)}, &witness{answer: holder}
	hostOne, hostTwo := hostOf(serveHTTP(t, one)), hostOf(serveHTTP(t, two))
	plain := hostOf(serveHTTP(t, holder))
	lines := []string{
		hostOne + "/one@" + push(t, plain+"/one", platformImage(t, "linux/amd64")),
		hostTwo + "/two@" + push(t, plain+"/two", platformImage(t, "linux/arm64")),
	}
	metadata := filepath.Join(t.TempDir(), "charmcraft.yaml")
	writeFile(t, metadata, fmt.Sprintf("name: %s\nresources:\n  %s: {type: oci-image, upstream-source: \"%s\"}\n",
		charm, imageResource, lines[0]))

	for name, inputs := range map[string][]string{
		"digests":  {"resource=" + imageResource, imageLines(lines...)},
		"tags":     {"resource=" + imageResource, imageLines(hostOne+"/one:latest", hostTwo+"/two:latest")},
		"metadata": {"metadata=" + metadata},
		"nonsense": {"resource=" + imageResource, imageLines(lines...), "source-registry=https://" + hostOne},
	} {
		sandbox := startSandbox(t, server.Options{InMemory: true})
		r := action(t, sandbox, append(inputs, login...)...)
		r.failed(t, sandbox, "source-registry")
		if heard := append(one.all(), two.all()...); len(heard) > 0 || len(sandbox.Requests()) > 0 {
			t.Fatalf("%s: requests before the complaint: %q, %v", name, heard, sandbox.Requests())
		}
	}
	for name, inputs := range map[string][]string{
		"lines":    {"resource=" + imageResource, imageLines(lines...)},
		"metadata": {"metadata=" + metadata},
	} {
		sandbox := startSandbox(t, server.Options{InMemory: true})
		r := action(t, sandbox, append(append(inputs, login...), "source-registry="+hostOne)...)
		r.succeeded(t)
		for _, leak := range leaks(t, []string{password}, r) {
			t.Errorf("%s: %s", name, leak)
		}
	}
	two.heardNone(t, "the registry that source-registry doesn't name", []string{"Authorization"})
}

// TestPasswordBesideUnreadLine: a line that can't be read may be the one that
// names the password's registry.
func TestPasswordBesideUnreadLine(t *testing.T) {
	t.Parallel()
	const password = "battery-staple"
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	one := &witness{answer: guardedBy(password, holder)}
	tagged := hostOf(serveHTTP(t, one)) + "/one:latest"
	for _, unread := range []string{"docker:example.com/two@" + someDigest, "example.com/two@sha256:123", "https://example.com/two"} {
		sandbox := startSandbox(t, server.Options{InMemory: true})
		r := action(t, sandbox, "resource="+imageResource, imageLines(tagged, unread), "source-username=reader", "source-password="+password)
		r.failed(t, sandbox, tagged, unread)
		one.heardNone(t, "the registry of another line", []string{"Authorization"})
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

func hostOf(url string) string { return strings.TrimPrefix(url, "http://") }

// TestPasswordInName: what is a password by mistake is shown nowhere.
func TestPasswordInName(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	for _, name := range []string{
		"reader:" + password + "@ghcr.io/my-org/image@" + someDigest,
		"docker://reader:" + password + "@ghcr.io/my-org/image:1.0",
		"https://reader:" + password + "@ghcr.io/my-org/image@" + someDigest,
	} {
		metadata := filepath.Join(t.TempDir(), "charmcraft.yaml")
		writeFile(t, metadata, fmt.Sprintf("name: %s\nresources:\n  %s: {type: oci-image, upstream-source: \"%s\"}\n",
			charm, imageResource, name))
		for _, inputs := range [][]string{
			{"resource=" + imageResource, "image=" + name},
			{"resource=" + imageResource, "image=" + name + " platform=linux/amd64"},
			{"metadata=" + metadata},
		} {
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := action(t, sandbox, inputs...)
			r.outputs = nil // with metadata, the list of none
			r.failed(t, sandbox, "***@ghcr.io/my-org/image", "give source-username and source-password")
			for _, leak := range leaks(t, []string{password}, r) {
				t.Error(leak)
			}
			if !strings.Contains(r.log, maskCommand+password+"\n") {
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

func startTroubled(t *testing.T) (r *troubled, host string) {
	t.Helper()
	r = &troubled{
		Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		faults:  map[string]http.HandlerFunc{}, asked: map[string]int{},
	}
	return r, hostOf(serveHTTP(t, r))
}

// TestSourceRegistryInTrouble: what fails once, on a manifest or a blob, is
// tried again.
func TestSourceRegistryInTrouble(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500, 502, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			source, host := startTroubled(t)
			img := platformImage(t, "linux/amd64")
			digest := push(t, host+"/image", img)
			fault := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(status)
			}
			paths := []string{"/v2/image/manifests/" + digest, "/v2/image/blobs/" + firstLayer(t, img).Digest.String()}
			for _, path := range paths {
				source.faults[path], source.asked[path] = fault, 0
			}
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := action(t, sandbox, "resource="+imageResource, "image="+host+"/image@"+digest)
			r.succeeded(t)
			r.has(t, map[string]string{"remote-digest": digest, "revision": "1"})
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
	img, err := mutate.AppendLayers(platformImage(t, "linux/amd64"), layer)
	if err != nil {
		t.Fatal(err)
	}
	digest := push(t, host+"/image", img)
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
	sandbox := startSandbox(t, server.Options{InMemory: true})
	r := action(t, sandbox, "resource="+imageResource, "image="+host+"/image@"+digest)
	r.succeeded(t)
	r.has(t, map[string]string{"remote-digest": digest, "revision": "1"})
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
	img, err := mutate.AppendLayers(platformImage(t, "linux/amd64"), layer)
	if err != nil {
		t.Fatal(err)
	}
	open := hostOf(serveHTTP(t, holder))
	digest := push(t, open+"/image", img)
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	index := push(t, open+"/image", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}))
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
				host := hostOf(serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
				sandbox := startSandbox(t, server.Options{InMemory: true})
				r := action(t, sandbox, "resource="+imageResource, "image="+host+"/image@"+test.image, noEngine(t))
				r.failed(t, sandbox, host+"/image", "not for you", "check ")
				if text := annotation(r, "error"); strings.Contains(text, "Charmhub gave") || strings.Contains(text, "lost the upload") {
					t.Errorf("the charm's registry is blamed: %s", text)
				}
				sentNoManifest(t, sandbox)
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

// TestSourceBlobElsewhere: a registry that keeps its blobs at another host is
// followed there, without what is secret.
func TestSourceBlobElsewhere(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	digest := push(t, hostOf(serveHTTP(t, holder))+"/image", platformImage(t, "linux/amd64"))
	elsewhere := &witness{answer: holder}
	// A name, so that it is another host and not just another port.
	storage := strings.Replace(serveHTTP(t, elsewhere), "127.0.0.1", "localhost", 1)
	host := hostOf(serveHTTP(t, guardedBy(password, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, storage+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		holder.ServeHTTP(w, r)
	}))))
	sandbox := startSandbox(t, server.Options{InMemory: true})
	r := action(t, sandbox, "resource="+imageResource, "image="+host+"/image@"+digest,
		"source-username=reader", "source-password="+password)
	r.succeeded(t)
	elsewhere.heardNone(t, "the blobs' host", []string{"Authorization", password})
	if len(elsewhere.all()) == 0 {
		t.Error("the blobs' host was asked nothing")
	}
}

// TestRepositoryIsAskedFirst: of an image that the charm's repository holds, its
// own registry is asked nothing; of another, its errors are errors.
func TestRepositoryIsAskedFirst(t *testing.T) {
	t.Parallel()
	source, host := startTroubled(t)
	index := platformIndex(t, "linux/amd64", "linux/arm64")
	digest := push(t, host+"/image", index)
	image := "image=" + host + "/image@" + digest
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, "resource="+imageResource, image)
	first.succeeded(t)
	source.mu.Lock()
	clear(source.asked)
	source.mu.Unlock()
	rerun(t, sandbox, first, image)
	if len(source.asked) > 0 {
		t.Errorf("the source registry was asked: %v", source.asked)
	}
}

// TestEngineCopyOfNamedImage: where the registry of an image refuses access, an
// engine that keeps manifests may have the same image. Nothing else stands in
// for it, least of all one platform for an index.
func TestEngineCopyOfNamedImage(t *testing.T) {
	t.Parallel()
	engine := containerdStore(t)
	source := &closable{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	host := hostOf(serveHTTP(t, source))
	one := host + "/one@" + push(t, host+"/one", platformImage(t, "linux/amd64"))
	index := host + "/index@" + push(t, host+"/index", platformIndex(t, "linux/amd64", "linux/arm64"))
	for _, image := range []string{one, index} {
		run(t, "env", engine, "docker", "pull", "--quiet", "--platform", "linux/amd64", image)
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
		sandbox := startSandbox(t, server.Options{InMemory: true})
		r := action(t, sandbox, engine, "resource="+imageResource, "image="+test.image)
		if test.want != nil {
			r.failed(t, sandbox, test.want...)
			sentNoManifest(t, sandbox)
			continue
		}
		r.has(t, map[string]string{"revision": "1", "remote-digest": test.image[strings.Index(test.image, "@")+1:]})
		if warning := annotation(r, "warning"); !strings.Contains(warning, "using the container engine's copy") {
			t.Errorf("the warning is %q", warning)
		}
	}
}

// TestUnpackedCopyOfNamedImage: an engine that keeps no manifests can't tell an
// index from an image.
func TestUnpackedCopyOfNamedImage(t *testing.T) {
	t.Parallel()
	need(t, "docker")
	source := &closable{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	host := hostOf(serveHTTP(t, source))
	image := host + "/index@" + push(t, host+"/index", platformIndex(t, "linux/amd64", "linux/arm64"))
	run(t, "docker", "pull", "--quiet", "--platform", "linux/amd64", image)
	t.Cleanup(func() { _ = exec.Command("docker", "image", "rm", image).Run() })
	id := run(t, "docker", "image", "inspect", "--format", "{{.Id}}", image)
	source.close(http.StatusUnauthorized)
	sandbox := startSandbox(t, server.Options{InMemory: true})
	r := action(t, sandbox, "resource="+imageResource, "image="+image)
	r.failed(t, sandbox, image, "give source-username and source-password", "of several platforms", id)
	sentNoManifest(t, sandbox)
}

// closable is a registry that can be made to refuse.
type closable struct {
	http.Handler

	mu     sync.Mutex
	status int
}

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
	open, closed := hostOf(serveHTTP(t, holder)), hostOf(serveHTTP(t, guardedBy("correct-horse", holder)))
	digest := push(t, open+"/image", platformImage(t, "linux/amd64"))
	stray := hostOf(serveHTTP(t, guarded("nothing", `Bearer realm="http://auth.example/token",service="x"`, holder)))
	metadata := func(source string) string {
		path := filepath.Join(t.TempDir(), "charmcraft.yaml")
		writeFile(t, path, fmt.Sprintf("name: %s\nresources:\n  %s: {type: oci-image, upstream-source: \"%s\"}\n", charm, imageResource, source))
		return "metadata=" + path
	}
	login := []string{
		"401 Unauthorized", "give source-username and source-password", "source-registry: " + closed, "docker login " + closed,
	}
	for name, test := range map[string]struct{ inputs, want []string }{
		"no login":            {[]string{"resource=" + imageResource, "image=" + closed + "/image@" + digest}, login},
		"no login, upstream":  {[]string{metadata(closed + "/image:latest")}, append(login, closed+"/image:latest")},
		"wrong login":         {[]string{"resource=" + imageResource, "image=" + closed + "/image@" + digest, "source-username=x", "source-password=wrong-password"}, []string{"401 Unauthorized", "check that the credentials given for " + closed + " are valid and may pull image"}},
		"token without TLS":   {[]string{"resource=" + imageResource, "image=" + stray + "/image@" + digest, "source-username=x", "source-password=wrong-password"}, []string{"refused to send a request to http://auth.example", "only https is safe"}},
		"no such digest":      {[]string{"resource=" + imageResource, "image=" + open + "/image@" + someDigest}, []string{open + "/image@" + someDigest, "MANIFEST_UNKNOWN", "check that name, tag and digest are right"}},
		"no such tag":         {[]string{metadata(open + "/image:9")}, []string{open + "/image:9", "MANIFEST_UNKNOWN", "check that name, tag and digest are right"}},
		"no such repository":  {[]string{metadata(open + "/other:latest")}, []string{open + "/other:latest", "NAME_UNKNOWN", "check that name, tag and digest are right"}},
		"source that is none": {[]string{metadata("Not an image")}, []string{"upstream-source", "Not an image", "give a digest, name@sha256:…"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := action(t, sandbox, append(test.inputs, noEngine(t))...)
			r.outputs = nil // with metadata, the list of none
			r.failed(t, sandbox, test.want...)
		})
	}
}
