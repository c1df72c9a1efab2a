package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/charmhub-actions/upload-resource/e2e/program"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// BenchmarkUnchangedCharm measures one step, and three, that publish a charm with two
// images of another registry and a file, where all of it is on the channel already.
// Round trips take 90 ms.
//
//	go test -run '^$' -bench UnchangedCharm -benchtime 5x ./e2e/bench
func BenchmarkUnchangedCharm(b *testing.B) {
	dir := b.TempDir()
	action := filepath.Join(dir, "upload-resource")
	if err := program.Build(b.Context(), action); err != nil {
		b.Fatal(err)
	}
	link := newLink(90*time.Millisecond, 0)
	proxies := &hub{}
	b.Cleanup(func() {
		for _, proxy := range proxies.proxies {
			_ = proxy.Close()
		}
	})
	metadata := "name: " + charmName + "\nresources:\n  file: {type: file}\n"
	source := startSource(b, link, proxies)
	for _, image := range []string{"one", "two"} {
		metadata += "  " + image + ": {type: oci-image, upstream-source: \"" + pushImage(b, source, image) + "\"}\n"
	}
	noble := server.ReleaseBase{Name: "ubuntu", Channel: "24.04", Architecture: "amd64"}
	for name, content := range map[string]string{
		"my.charm": charmtest.File(b, metadata, noble), "metadata.yaml": metadata, "rules.txt": "rules",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	sandbox, err := server.Start(server.Options{
		InMemory: true, Charms: []server.Charm{{Name: charmName}},
		Behind: func(_, addr string) (string, error) { return proxies.behind(link, addr) },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sandbox.Close() })
	run := func(b *testing.B, args []string) {
		b.Helper()
		command := exec.CommandContext(b.Context(), action, args...)
		command.Dir = dir
		command.Env = append([]string{"HOME=" + dir, "TMPDIR=" + dir}, sandbox.Env()...)
		if out, err := command.CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	publish := []string{"publish", "--charms", "my.charm", "--resources", "file = rules.txt", "--channel", "latest/edge"}
	run(b, publish) // from now on, nothing changes
	for name, steps := range map[string][][]string{
		"one step": {publish},
		"three steps": {
			{"--metadata", "metadata.yaml"},
			{"--charm", charmName, "--resource", "file", "--filepath", "rules.txt"},
			{
				"release", "--charm", charmName, "--charms", "my.charm", "--channel", "latest/edge",
				"--resources", "one:1", "--resources", "two:1", "--resources", "file:1",
			},
		},
	} {
		b.Run(name, func(b *testing.B) {
			sandbox.ResetRequests()
			for b.Loop() {
				for _, args := range steps {
					run(b, args)
				}
			}
			requests := map[string]float64{"store": 0, "registry": 0, "auth": 0}
			for _, request := range sandbox.Requests() {
				requests[request.Server]++
			}
			for of, n := range requests {
				b.ReportMetric(n/float64(b.N), of+"-requests/op")
			}
			if made := sandbox.CharmRevisions(charmName); len(made) != 1 || len(sandbox.Revisions(charmName, "one")) != 1 {
				b.Errorf("%d charm revisions: something was uploaded again", len(made))
			}
		})
	}
}

// behind puts a link before the server at addr, and returns where it is found.
func (h *hub) behind(l *link, addr string) (string, error) {
	proxy, err := l.before(addr)
	if err != nil {
		return "", err
	}
	h.proxies = append(h.proxies, proxy)
	return proxy.Addr().String(), nil
}

// startSource starts a registry behind the link, and returns its host.
func startSource(b *testing.B, l *link, proxies *hub) string {
	b.Helper()
	source := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	b.Cleanup(source.Close)
	host, err := proxies.behind(l, strings.TrimPrefix(source.URL, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	return host
}

// pushImage pushes an image of 5 MB and returns its name with its digest.
func pushImage(b *testing.B, host, name string) string {
	b.Helper()
	image, err := random.Image(5<<20, 1)
	if err != nil {
		b.Fatal(err)
	}
	if err := crane.Push(image, host+"/"+name+":latest"); err != nil {
		b.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		b.Fatal(err)
	}
	return host + "/" + name + "@" + digest.String()
}
