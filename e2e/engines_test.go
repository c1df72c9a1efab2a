package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	commands "github.com/charmhub-actions/upload-resource/e2e/program"
)

// podman is a podman with a storage of its own: it shares nothing with the
// machine's, and nothing of it is left.
type podman struct{ conf string }

func newPodman(t *testing.T) podman {
	t.Helper()
	need(t, "podman")
	dir := shortDir(t)
	conf := filepath.Join(dir, "storage.conf")
	writeFile(t, conf, "[storage]\ndriver = \"vfs\"\ngraphroot = \""+dir+"/graph\"\nrunroot = \""+dir+"/run\"\n")
	return podman{conf: conf}
}

func (p podman) variable() string { return "CONTAINERS_STORAGE_CONF=" + p.conf }

func (p podman) run(t *testing.T, args ...string) {
	t.Helper()
	run(t, "env", append([]string{p.variable(), "podman"}, args...)...)
}

// serve starts podman's Docker-compatible service and returns its DOCKER_HOST.
// The socket is there before the service, which systemd's protocol hands it
// over to, so that nobody has to wait for it.
func (p podman) serve(t *testing.T) string {
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
	service.Env = append(os.Environ(), p.variable(), "LISTEN_FDS=1")
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
	t.Cleanup(func() { _ = asRoot("rm", "-rf", dir).Run() })
	return dir
}

// asRoot is a command that runs as root. Where it takes sudo for that, nobody
// is asked for a password.
func asRoot(name string, args ...string) *exec.Cmd {
	if os.Getuid() == 0 {
		return exec.Command(name, args...)
	}
	return exec.Command("sudo", append([]string{"--non-interactive", name}, args...)...)
}

// containerdStore starts a Docker engine that keeps images in containerd, as
// engines from 29 on do unless they were upgraded, and returns its DOCKER_HOST.
// UPLOAD_RESOURCE_DOCKERD names the dockerd.
func containerdStore(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("UPLOAD_RESOURCE_DOCKERD")
	if binary == "" && os.Getenv("UPLOAD_RESOURCE_E2E") != "required" {
		t.Skip("UPLOAD_RESOURCE_DOCKERD names no dockerd of version 29 or newer")
	}
	need(t, binary, "docker")
	containerd := startContainerd(t)
	dir := shortDir(t)
	host, args := commands.Dockerd(dir)
	startNotifying(t, filepath.Join(dir, "notify"), binary, append(args, "--group", strconv.Itoa(os.Getgid()), "--containerd", containerd)...)
	return "DOCKER_HOST=" + host
}

// startContainerd starts the machine's containerd with a storage of its own, and returns its address.
func startContainerd(t *testing.T) string {
	t.Helper()
	need(t, "containerd")
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
	ended := start(t, asRoot("env", append([]string{"NOTIFY_SOCKET=" + socket, name}, args...)...))
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
