package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	commands "github.com/charmhub-actions/upload-resource/e2e/program"
)

// Container runs a command in a container of podman's that needs as little of
// the machine as there is.
func (p Podman) Container(t *testing.T, image string, command ...string) (string, error) {
	t.Helper()
	// its defaults may be more than is allowed
	args := append([]string{p.Variable(), "podman", "run", "--rm", "--network=none", "--ulimit=nofile=1024:1024",
		"--ulimit=nproc=1024:1024",
		"--security-opt=seccomp=unconfined", image}, command...)
	var errs bytes.Buffer
	c := exec.CommandContext(context.WithoutCancel(t.Context()), "env", args...)
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return string(out), err
}

// Podman is a podman with a storage of its own: it shares nothing with the
// machine's, and nothing of it is left.
type Podman struct{ conf string }

// NewPodman returns a podman with an empty storage.
func NewPodman(t *testing.T) Podman {
	t.Helper()
	Need(t, "podman")
	dir := shortDir(t)
	conf := filepath.Join(dir, "storage.conf")
	WriteFile(t, conf, "[storage]\ndriver = \"vfs\"\ngraphroot = \""+dir+"/graph\"\nrunroot = \""+dir+"/run\"\n")
	return Podman{conf: conf}
}

// Variable is the environment variable that gives podman and buildah this storage.
func (p Podman) Variable() string { return "CONTAINERS_STORAGE_CONF=" + p.conf }

// Run runs podman, and fails the test if that fails.
func (p Podman) Run(t *testing.T, args ...string) {
	t.Helper()
	Tool(t, "env", append([]string{p.Variable(), "podman"}, args...)...)
}

// Serve starts podman's Docker-compatible service and returns its DOCKER_HOST.
// The socket is there before the service, which systemd's protocol hands it
// over to, so that nobody has to wait for it.
func (p Podman) Serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(p.conf), "sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	socket, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	service := exec.Command("sh", "-c", "LISTEN_PID=$$ exec podman system service --time=0")
	service.Env = append(os.Environ(), p.Variable(), "LISTEN_FDS=1")
	service.ExtraFiles = []*os.File{socket}
	start(t, service)
	if err := errors.Join(socket.Close(), listener.Close()); err != nil {
		t.Fatal(err)
	}
	return "DOCKER_HOST=unix://" + path
}

// start runs a service until the test's end, and shows what it said if the
// test failed. The channel is closed when the service ends.
func start(t *testing.T, service *exec.Cmd) <-chan struct{} {
	t.Helper()
	var log strings.Builder
	service.Stdout, service.Stderr = &log, &log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = service.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = service.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", service, log.String())
		}
	})
	return ended
}

// shortDir is a temporary folder whose name leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-") //nolint:usetesting // that folder's name is long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = AsRoot("rm", "-rf", dir).Run() })
	return dir
}

// AsRoot is a command that runs as root. Where it takes sudo for that, nobody
// is asked for a password.
func AsRoot(name string, args ...string) *exec.Cmd {
	if os.Getuid() == 0 {
		return exec.Command(name, args...)
	}
	return exec.Command("sudo", append([]string{"--non-interactive", name}, args...)...)
}

// StartContainerdStore starts a Docker engine that keeps images in containerd, as
// engines from 29 on do unless they were upgraded, and returns its DOCKER_HOST.
// UPLOAD_RESOURCE_DOCKERD names the dockerd.
func StartContainerdStore(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("UPLOAD_RESOURCE_DOCKERD")
	if binary == "" && os.Getenv("UPLOAD_RESOURCE_E2E") != "required" {
		t.Skip("UPLOAD_RESOURCE_DOCKERD names no dockerd of version 29 or newer")
	}
	Need(t, binary, "docker")
	containerd := StartContainerd(t)
	dir := shortDir(t)
	host, args := commands.Dockerd(dir)
	startNotifying(t, filepath.Join(dir, "notify"), binary,
		append(args, "--group", strconv.Itoa(os.Getgid()), "--containerd", containerd)...)
	return "DOCKER_HOST=" + host
}

// StartContainerd starts the machine's containerd with a storage of its own, and returns its address.
func StartContainerd(t *testing.T) string {
	t.Helper()
	Need(t, "containerd")
	dir := shortDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	startNotifying(t, at("notify"), "containerd", "--config", "/dev/null",
		"--root", at("c"), "--state", at("cs"), "--address", at("c.sock"))
	return at("c.sock")
}

// startNotifying starts a service and returns when it says, as sd_notify(3)
// has it, that it is ready.
func startNotifying(t *testing.T, socket, name string, args ...string) {
	t.Helper()
	notices, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	ended := start(t, AsRoot("env", append([]string{"NOTIFY_SOCKET=" + socket, name}, args...)...))
	ready := make(chan struct{})
	go func() {
		select {
		case <-ended: // without a word
		case <-ready:
		}
		_ = notices.Close()
	}()
	defer close(ready)
	for notice := make([]byte, 4096); ; {
		n, err := notices.Read(notice)
		if err != nil {
			t.Fatalf("%s isn't ready: %v", name, err)
		}
		if strings.Contains(string(notice[:n]), "READY=1") {
			return
		}
	}
}

// FakeEngine serves what is asked of a container engine to find an image, and
// returns its DOCKER_HOST. It has images of these IDs, in no more than name.
func FakeEngine(t *testing.T, ids ...string) string {
	t.Helper()
	images := make([]map[string]any, len(ids))
	for i, id := range ids {
		images[i] = map[string]any{"Id": id, "RepoTags": nil, "RepoDigests": nil}
	}
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/images/json"):
			_ = json.NewEncoder(w).Encode(images)
		default:
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "No such image"})
		}
	}))
	t.Cleanup(engine.Close)
	return "DOCKER_HOST=tcp://" + engine.Listener.Addr().String()
}

// NoEngine is a DOCKER_HOST where nobody answers.
func NoEngine(t *testing.T) string {
	t.Helper()
	return "DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "no.sock")
}

// Engine is a container engine behind a proxy that counts what is asked of it.
type Engine struct {
	direct string   // its own DOCKER_HOST=…
	Env    []string // what has the action use it

	mu    sync.Mutex
	calls []string
}

// WatchEngine puts a proxy before an engine.
func WatchEngine(t *testing.T, host string, env ...string) *Engine {
	t.Helper()
	e := &Engine{direct: "DOCKER_HOST=" + host}
	target, err := url.Parse(host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", target.Path)
		}},
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.calls = append(e.calls, r.Method+" "+r.URL.Path)
		e.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	e.Env = append([]string{"DOCKER_HOST=tcp://" + front.Listener.Addr().String()}, env...)
	return e
}

// Exports returns how many image exports were requested since the last call, and resets the count.
func (e *Engine) Exports() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.calls
	e.calls = nil
	return len(slices.DeleteFunc(all, func(call string) bool { return !strings.HasSuffix(call, "/get") }))
}

// Docker runs the Docker client on this engine and returns what it printed, trimmed.
func (e *Engine) Docker(t *testing.T, args ...string) string {
	t.Helper()
	Need(t, "docker")
	return Tool(t, "docker", append([]string{"--host", strings.TrimPrefix(e.direct, "DOCKER_HOST=")}, args...)...)
}

// Load gives an image to the engine and returns its ID.
func (e *Engine) Load(t *testing.T, img v1.Image) string {
	t.Helper()
	tag, err := name.NewTag("stores.test/image:" + strings.ToLower(DigestOfImage(t, img)[len("sha256:"):][:20]))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	load := exec.CommandContext(t.Context(), "docker", "load")
	load.Env, load.Stdin = append(os.Environ(), e.direct), &archive
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", load, err, out)
	}
	id := e.Docker(t, "inspect", "--format", "{{.Id}}", tag.Name())
	t.Cleanup(func() {
		remove := exec.Command("docker", "rmi", "--force", tag.Name())
		remove.Env = append(os.Environ(), e.direct)
		_ = remove.Run()
	})
	if !strings.HasPrefix(id, "sha256:") {
		id = "sha256:" + id
	}
	return id
}

// GraphDriverEngine returns the machine's own engine, which keeps layers unpacked.
func GraphDriverEngine(t *testing.T) *Engine {
	t.Helper()
	Need(t, "docker")
	return WatchEngine(t, Tool(t, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"))
}

// WithAttestation is an index of one image and an attestation for it, as buildx makes
// one in each build.
func WithAttestation(t *testing.T, img v1.Image, statement string) v1.ImageIndex {
	t.Helper()
	attestation := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	attestation, err := mutate.AppendLayers(attestation,
		static.NewLayer([]byte(statement), "application/vnd.in-toto+json"))
	if err != nil {
		t.Fatal(err)
	}
	return mutate.IndexMediaType(mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}},
		mutate.IndexAddendum{Add: attestation, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{
				"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": DigestOfImage(t, img),
			},
		}}), types.OCIImageIndex)
}

// SaveImage returns an image's archive, the image, and its ID in an engine.
func SaveImage(t *testing.T) (archive string, img v1.Image, id string) {
	t.Helper()
	archive = WriteImageArchive(t, 1000, 2)
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return archive, img, config.String()
}
