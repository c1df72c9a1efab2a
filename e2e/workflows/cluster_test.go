package workflows

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// application is what Juju makes of a charm with two units, as far as images
// and roll-outs are concerned. A unit of a new revision becomes ready when the
// test lets it: when the folder of gates has a file with the revision's name.
const application = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: my-charm}
spec:
  replicas: 2
  podManagementPolicy: Parallel
  serviceName: my-charm-endpoints
  selector: {matchLabels: {app.kubernetes.io/name: my-charm}}
  template:
    metadata: {labels: {app.kubernetes.io/name: my-charm}}
    spec:
      automountServiceAccountToken: false
      hostNetwork: true
      terminationGracePeriodSeconds: 1
      imagePullSecrets: [{name: my-charm-my-container-secret}]
      containers:
      - {name: charm, image: "$IMAGE"}
      - name: my-container
        image: "$IMAGE"
        readinessProbe: {periodSeconds: 1, exec: {command: [/busybox, sh, -c, "test -e /gates/$REVISION"]}}
        volumeMounts: [{name: gates, mountPath: /gates}]
      volumes: [{name: gates, hostPath: {path: "$GATES"}}]
`

// cluster is a StatefulSet of two pods in a Kubernetes of one node.
type cluster struct {
	sandbox *server.Server
	gates   string
	image   string // that both pods run
}

// TestCluster: the wait that docs/cluster.md describes ends when, and only when,
// every pod runs the image. The node reports the image under one of its digests,
// or of what else it has with the same config.
func TestCluster(t *testing.T) {
	kubeconfig := os.Getenv("UPLOAD_RESOURCE_E2E_CLUSTER")
	if kubeconfig == "" {
		t.Skip("needs a cluster of its own: run .ci/cluster")
	}
	t.Setenv("KUBECONFIG", kubeconfig)
	harness.Need(t, "kubectl", "crane", "bash", "busybox")
	c := newCluster(t)

	thisPlatform := "platform=linux/" + runtime.GOARCH
	t.Run("image", func(t *testing.T) {
		c.roll(t, c.publish(t, harness.ImageResource, "image", runnable(t, "image")))
	})
	t.Run("index", func(t *testing.T) {
		c.roll(t, c.publish(t, harness.ImageResource, "index", runnableIndex(t, "index")))
	})
	t.Run("manifest of an index", func(t *testing.T) {
		c.roll(t, c.publish(t, harness.ImageResource, "manifest", runnableIndex(t, "manifest"), thisPlatform))
	})
	// Of the names of a config, containerd reports the one that sorts first.
	t.Run("image that the node has under another name", func(t *testing.T) {
		image := runnable(t, "again")
		c.roll(t, c.publish(t, harness.ImageResource, "again", image))
		c.roll(t, c.publish(t, harness.OtherResource, "again", image))
	})
	t.Run("manifest of an index that the node has under another name", func(t *testing.T) {
		index := runnableIndex(t, "child")
		c.roll(t, c.publish(t, harness.ImageResource, "child", index))
		c.roll(t, c.publish(t, harness.OtherResource, "child", index, thisPlatform))
	})
	t.Run("layers compressed with zstd", func(t *testing.T) {
		c.roll(t, c.publish(t, harness.ImageResource, "zstd", runnable(t, "zstd"), "compression=zstd"))
	})
	t.Run("config that the node has from another manifest", func(t *testing.T) {
		smaller := c.publish(t, harness.ImageResource, "config", runnable(t, "config", tarball.WithCompressionLevel(9)))
		c.roll(t, smaller)
		larger := c.publish(t, harness.OtherResource, "config", runnable(t, "config"))
		larger.sameConfig = smaller.digests
		c.roll(t, larger)
	})
	t.Run("half-rolled", c.halfRolled)
	t.Run("rolled back", c.rolledBack)
	t.Run("partition", c.partition)
	t.Run("workflow", c.workflow)
}

// newCluster deploys the application.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{gates: t.TempDir(), sandbox: harness.StartSandboxWithOther(t, server.Options{InMemory: true})}
	first := c.publish(t, harness.ImageResource, "first", runnable(t, "first"))

	// The node logs in with what Juju reads from the revision.
	text := c.newest(t)
	host, _, _ := strings.Cut(text.ImageName, "/")
	login,
		err := json.Marshal(map[string]any{"auths": map[string]any{
		host: map[string]string{"username": text.Username, "password": text.Password}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	harness.WriteFile(t, path, string(login))
	harness.Tool(t, "kubectl", "create", "secret", "docker-registry", "my-charm-my-container-secret",
		"--from-file=.dockerconfigjson="+path)

	path = filepath.Join(t.TempDir(), "application.yaml")
	harness.WriteFile(t, path, strings.NewReplacer("$IMAGE", text.ImageName, "$GATES", c.gates).Replace(application))
	harness.Tool(t, "kubectl", "apply", "--filename="+path)
	c.open(t, first)
	c.arrived(t, first, c.wait(t, first.image, "2m"))
	return c
}

// revision is the content of an image's revision: where a deployment finds it.
type revision struct{ ImageName, Username, Password string }

// newest returns the newest revision of the image.
func (c *cluster) newest(t *testing.T) (text revision) {
	t.Helper()
	all := c.sandbox.Revisions(harness.Charm, harness.ImageResource)
	content, err := all[len(all)-1].Content()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &text); err != nil {
		t.Fatal(err)
	}
	return text
}

// published is an image in a charm's repository.
type published struct {
	image      string   // its name
	gate       string   // that makes its pods ready
	digests    []string // under which a runtime may report it
	sameConfig []string // of other images with its config that the node has
}

// publish lets the action upload an image or an index.
func (c *cluster) publish(t *testing.T, resource, gate string, what any, inputs ...string) published {
	t.Helper()
	image := harness.WriteRock(t, what)
	// which is for images without a manifest
	if img, ok := what.(v1.Image); ok && slices.Contains(inputs, "compression=zstd") {
		image = filepath.Join(t.TempDir(), "saved.tar")
		if err := tarball.WriteToFile(image, name.MustParseReference("saved:1"), img); err != nil {
			t.Fatal(err)
		}
	}
	r := harness.Upload(t, c.sandbox, append(inputs, "resource="+resource, "image="+image, harness.NoEngine(t))...)
	r.Succeeded(t)
	next := published{image: r.Outputs["remote-image"], gate: gate}
	if err := json.Unmarshal([]byte(r.Outputs["digests"]), &next.digests); err != nil {
		t.Fatal(err)
	}
	return next
}

// digestsOf returns the digests of an image in a registry: of its manifest or
// index, of the manifests that an index lists, and of their configs.
func digestsOf(t *testing.T, login, image string) []string {
	t.Helper()
	repository, digest, _ := strings.Cut(image, "@")
	var manifest struct {
		Config    struct{ Digest string }
		Manifests []struct{ Digest string }
	}
	if err := json.Unmarshal([]byte(harness.Tool(t, "env", "DOCKER_CONFIG="+login, "crane", "manifest", image)),
		&manifest); err != nil {
		t.Fatal(err)
	}
	digests := []string{digest}
	if manifest.Config.Digest != "" {
		digests = append(digests, manifest.Config.Digest)
	}
	for _, child := range manifest.Manifests {
		digests = append(digests, digestsOf(t, login, repository+"@"+child.Digest)...)
	}
	return digests
}

// runnable makes an image that runs until it is stopped, and gets ready at the
// gate of that name.
func runnable(t *testing.T, gate string, options ...tarball.LayerOption) v1.Image {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	var files bytes.Buffer
	root := harness.NewRootFS(&files)
	if err := errors.Join(root.Tree("busybox", busybox), root.Close()); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files.Bytes())), nil
	}, options...)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Cmd, config.Config.Env = []string{"/busybox", "sleep", "infinity"}, []string{"REVISION=" + gate}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// runnableIndex makes an index of such an image and of one for another platform.
func runnableIndex(t *testing.T, gate string) v1.ImageIndex {
	t.Helper()
	return mutate.AppendManifests(harness.PlatformIndex(t, "linux/s390x"), mutate.IndexAddendum{
		Add: runnable(t, gate), Descriptor: v1.Descriptor{Platform: harness.ParsePlatform(t, "linux/"+runtime.GOARCH)},
	})
}

var documentedWait = regexp.MustCompile("(?s)<!-- cluster: wait -->\n+```sh\n(.*?)```\n")

// waiting is the wait that docs/cluster.md describes, under way.
type waiting struct {
	*exec.Cmd
	out *bytes.Buffer
}

// wait starts the documented wait for an image, with another time-out.
func (c *cluster) wait(t *testing.T, image, timeout string) waiting {
	t.Helper()
	found := documentedWait.FindStringSubmatch(harness.ReadFile(t, harness.Root+"/docs/cluster.md"))
	if found == nil {
		t.Fatal("docs/cluster.md has no wait")
	}
	script := strings.ReplaceAll(found[1], "--timeout=10m", "--timeout="+timeout)
	w := waiting{exec.CommandContext(t.Context(), "bash", "-e", "-c", script), &bytes.Buffer{}}
	w.Env = append(os.Environ(), "IMAGE="+image)
	w.Stdout, w.Stderr = w.out, w.out
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// notYet fails the test if the wait for an image ends well within some seconds.
func (c *cluster) notYet(t *testing.T, image, why string) {
	t.Helper()
	w := c.wait(t, image, "3s")
	if err := w.Wait(); err == nil {
		t.Errorf("the wait ended though %s:\n%s", why, w.out)
		return
	}
	t.Logf("not done: %s: %s", why, strings.ReplaceAll(strings.TrimSpace(w.out.String()), "\n", "; "))
}

// arrived fails the test unless the wait ends well, and both pods then run the
// image.
func (c *cluster) arrived(t *testing.T, want published, w waiting) {
	t.Helper()
	if err := w.Wait(); err != nil {
		t.Fatalf("the wait ended with %v:\n%s\n%s", err, w.out, harness.Tool(t, "kubectl", "describe", "pods"))
	}
	c.image = want.image
	for pod := range strings.Lines(c.query(t, `{range .items[*]}{.spec.containers[?(@.name=="my-container")].image} `+
		`{.status.containerStatuses[?(@.name=="my-container")].imageID}{"\n"}{end}`)) {
		image, imageID, _ := strings.Cut(strings.TrimSpace(pod), " ")
		reported := imageID[strings.LastIndex(imageID, "@")+1:]
		listed := slices.Contains(want.digests, reported)
		t.Logf("done: spec %s, imageID %s, in digests: %t", image, imageID, listed)
		if image != want.image {
			t.Errorf("a pod is for %s", image)
		}
		if !listed && !slices.Contains(want.sameConfig, reported) {
			t.Errorf("imageID is none of %s", want.digests)
		}
	}
}

// query returns what kubectl prints of the charm's pods for a JSONPath template.
func (c *cluster) query(t *testing.T, jsonpath string) string {
	t.Helper()
	return harness.Tool(t, "kubectl", "get", "pods", "--selector=app.kubernetes.io/name=my-charm",
		"--output=jsonpath="+jsonpath)
}

// set is what a refresh comes to.
func (c *cluster) set(t *testing.T, image string) {
	t.Helper()
	harness.Tool(t, "kubectl", "set", "image", "statefulset/my-charm", "my-container="+image)
}

// open lets the pods of an image become ready.
func (c *cluster) open(t *testing.T, p published) {
	t.Helper()
	harness.WriteFile(t, filepath.Join(c.gates, p.gate), "")
}

// replaced waits until the first pod to be replaced runs an image, ready or not.
func (c *cluster) replaced(t *testing.T, image string) {
	t.Helper()
	for _, condition := range []string{
		`{.spec.containers[?(@.name=="my-container")].image}=` + image,
		`{.status.containerStatuses[?(@.name=="my-container")].started}=true`,
	} {
		harness.Tool(t, "kubectl", "wait", "pod/my-charm-1", "--for=jsonpath="+condition, "--timeout=2m")
	}
}

// roll waits for an image from before the refresh on.
func (c *cluster) roll(t *testing.T, to published) {
	t.Helper()
	w := c.wait(t, to.image, "2m")
	c.open(t, to)
	c.set(t, to.image)
	c.arrived(t, to, w)
}

// halfRolled: one pod of two is new, and a look for its imageID would find it.
func (c *cluster) halfRolled(t *testing.T) {
	next := c.publish(t, harness.ImageResource, "half", runnable(t, "half"))
	c.notYet(t, next.image, "no refresh has happened")
	w := c.wait(t, next.image, "2m")
	c.set(t, next.image)
	c.replaced(t, next.image)
	c.notYet(t, next.image, "one pod of two runs the image")
	c.open(t, next)
	c.arrived(t, next, w)
}

// rolledBack: the roll-out that the wait watches ends, but with the old image.
func (c *cluster) rolledBack(t *testing.T) {
	before := c.image
	next := c.publish(t, harness.ImageResource, "back", runnable(t, "back"))
	w := c.wait(t, next.image, "2m")
	c.set(t, next.image)
	c.replaced(t, next.image)
	c.set(t, before)
	if err := w.Wait(); err == nil {
		t.Errorf("the wait ended though the application was rolled back:\n%s", w.out)
	}
	t.Logf("not done: rolled back during the wait:\n%s", w.out)
	c.notYet(t, next.image, "the application was rolled back")
}

// partition: a charm that upgrades unit by unit holds some back.
func (c *cluster) partition(t *testing.T) {
	next := c.publish(t, harness.ImageResource, "partition", runnable(t, "partition"))
	c.open(t, next)
	hold := func(partition string) {
		harness.Tool(t, "kubectl", "patch", "statefulset/my-charm",
			`--patch={"spec":{"updateStrategy":{"rollingUpdate":{"partition":`+partition+`}}}}`)
	}
	hold("1")
	c.set(t, next.image)
	c.replaced(t, next.image)
	c.notYet(t, next.image, "a partition holds one pod back")
	hold("0")
	c.arrived(t, next, c.wait(t, next.image, "2m"))
}

// workflow: the workflow that people copy publishes an image and waits for it
// with the real kubectl, while the test does what Juju does on a refresh.
func (c *cluster) workflow(t *testing.T) {
	harness.Need(t, "docker", "act")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	next := published{gate: "workflow"}
	c.open(t, next)
	checkout := harness.NewCheckout(t, c.sandbox, "publish.yml", map[string]string{
		"Dockerfile": "FROM scratch\nCOPY busybox /\nENV REVISION=" + next.gate +
			"\nCMD [\"/busybox\", \"sleep\", \"infinity\"]\n",
		"busybox": harness.ReadFile(t, busybox),
	})
	kubeconfig := harness.Tool(t, "kubectl", "config", "view", "--raw", "--output=jsonpath={}")
	before := len(c.sandbox.Revisions(harness.Charm, harness.ImageResource))
	ended := make(chan harness.Job, 1)
	go func() {
		defer close(ended)
		ended <- checkout.Run(t, "push", "--container-options", "--volume="+kubectl+":/bin/kubectl", "--secret",
			"KUBECONFIG="+kubeconfig)
	}()
	for tick := time.Tick(100 * time.Millisecond); len(c.sandbox.Revisions(harness.Charm,
		harness.ImageResource)) == before; {
		select {
		case r := <-ended:
			t.Fatalf("the workflow ended without a revision:\n%s", r.Log)
		case <-tick:
		}
	}
	next.image = c.newest(t).ImageName
	c.set(t, next.image)
	r := <-ended
	r.Succeeded(t)
	r.Logged(t, next.image)
	login, _ := harness.RegistryLogin(t, c.sandbox, harness.ImageResource)
	next.digests = digestsOf(t, login, next.image)
	c.arrived(t, next, c.wait(t, next.image, "1s"))
}
