package hostile

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// What the action logs about an image whose config is the right one, and that it has no proof for.
const (
	logComparing   = "has an image with this config that this store token didn't record: comparing its layers"
	logOtherLayers = "but other layers; it isn't used"
)

// The annotations of records, and one that vouched for layers without a proof before there were proofs.
const (
	recordedImage    = "com.github.charmhub-actions.upload-resource.image"
	recordedSource   = "com.github.charmhub-actions.upload-resource.source"
	recordedProofs   = "com.github.charmhub-actions.upload-resource.proofs"
	recordedVerified = "com.github.charmhub-actions.upload-resource.verified"
)

const otherCharm = "other-charm"

// pusher is somebody who may push to a repository and has no store token. It uses other people's tools.
type pusher struct{ login, repository string }

// newPusher returns a pusher to the repository of the image resource. It skips the test without crane or skopeo.
func newPusher(t *testing.T, sandbox *server.Server) pusher {
	t.Helper()
	harness.Need(t, "crane", "skopeo")
	login, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	return pusher{login, repository}
}

// crane runs crane with the pusher's login, and returns its output.
func (p pusher) crane(t *testing.T, args ...string) string {
	t.Helper()
	return harness.Tool(t, "env", append([]string{"DOCKER_CONFIG=" + p.login, "crane"}, args...)...)
}

// skopeo copies an image from source to a tag of the repository.
func (p pusher) skopeo(t *testing.T, source, tag string, options ...string) {
	t.Helper()
	options = append(options, "--dest-tls-verify=false", "--dest-authfile", harness.AuthFile(t, p.login), source,
		"docker://"+p.repository+":"+tag)
	harness.Tool(t, "skopeo", append([]string{"copy", "--quiet", "--all"}, options...)...)
}

// push pushes an image or index with a tool, and returns the digest that it has then.
func (p pusher) push(t *testing.T, tool string, what any, tag string) string {
	t.Helper()
	dir := harness.WriteLayout(t, what)
	if tool == "crane" {
		p.crane(t, "push", dir, p.repository+":"+tag)
	} else {
		p.skopeo(t, "oci:"+dir, tag)
	}
	return p.crane(t, "digest", p.repository+":"+tag)
}

// record writes a record of a source or key.
func (p pusher) record(t *testing.T, source string, annotations map[string]string) {
	t.Helper()
	layer := filepath.Join(t.TempDir(), "layer.tar")
	harness.WriteFile(t, layer, string(harness.TarLayer(t, "image-locations.yml", "---\n")))
	p.crane(t, "append", "--oci-empty-base", "--new_layer", layer, "--new_tag", p.repository+":"+recordTag(source))
	p.edit(t, source, annotations)
}

// edit changes annotations of a record.
func (p pusher) edit(t *testing.T, source string, annotations map[string]string) {
	t.Helper()
	record := p.repository + ":" + recordTag(source)
	args := []string{"mutate", record, "--tag", record}
	for name, value := range annotations {
		args = append(args, "--annotation", name+"="+value)
	}
	p.crane(t, args...)
}

// recordTag returns the tag under which the action records the source with this digest or ID.
func recordTag(source string) string {
	return strings.Replace(source, ":", "-", 1) + ".image-locations.imgpkg"
}

// copyFrom copies an image, or a record, from another repository with its digest.
func (p pusher) copyFrom(t *testing.T, other pusher, reference, tag string) {
	t.Helper()
	p.skopeo(t, "docker://"+other.repository+reference, tag,
		"--preserve-digests", "--src-tls-verify=false", "--src-authfile", harness.AuthFile(t, other.login))
}

// startWithOtherCharm starts a Charmhub with two charms, which have a resource of one name.
func startWithOtherCharm(t *testing.T, options server.Options) (sandbox *server.Server, other pusher) {
	t.Helper()
	for _, name := range []string{harness.Charm, otherCharm} {
		options.Charms = append(options.Charms, server.Charm{Name: name, Resources: []server.Resource{
			{Name: harness.ImageResource, Type: server.TypeImage}, {Name: harness.FileResource, Type: server.TypeFile},
		}})
	}
	sandbox = harness.StartSandbox(t, options)
	login, repository := harness.RegistryLoginTo(t, sandbox, otherCharm, harness.ImageResource)
	return sandbox, pusher{login, repository}
}

// shellImage is an image that runs and ends well. It has a layer that no other image has. Uncompressed is an image with
// the same config and with the same layers, which aren't compressed, though their media type says so.
func shellImage(t *testing.T) (img, uncompressed v1.Image) {
	t.Helper()
	var diffIDs []string
	var blobs, plain []v1.Layer
	for _, layer := range [][]byte{harness.TarLayer(t, "bin/sh", harness.ReadFile(t, harness.Shell)),
		harness.TarLayer(t, "unique", rand.Text())} {
		diffIDs = append(diffIDs, harness.DigestOf(layer))
		blobs = append(blobs, static.NewLayer(harness.Gzip(t, layer), types.OCILayer))
		plain = append(plain, static.NewLayer(layer, types.DockerLayer))
	}
	img = claiming(t, diffIDs, blobs...)
	config := configOf(t, img).DeepCopy()
	config.Config.Entrypoint = []string{"/bin/sh"}
	uncompressed, err := mutate.AppendLayers(empty.Image, plain...)
	if err != nil {
		t.Fatal(err)
	}
	return withConfig(t, img, config), withConfig(t, uncompressed, config)
}

// configOf returns the config of an image. It fails the test if there is none.
func configOf(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// withConfig returns the image with another config.
func withConfig(t *testing.T, img v1.Image, config *v1.ConfigFile) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// withForeignLayers returns an image with the config of another, and with other layers than that config says.
func withForeignLayers(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	config := configOf(t, img)
	return withConfig(t, liarAbout(t, config.RootFS.DiffIDs), config)
}

// runsEverywhere lets docker, podman and containerd pull an image of the charm's repository and run it.
func runsEverywhere(t *testing.T, sandbox *server.Server, digest string) {
	t.Helper()
	harness.Need(t, "docker", "podman", "ctr")
	login, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	image := repository + "@" + digest
	harness.Tool(t, "docker", "--config", login, "pull", "--quiet", image)
	harness.Tool(t, "docker", "run", "--rm", "--network=none", image)
	harness.Tool(t, "docker", "rmi", "--force", image)

	p := harness.NewPodman(t)
	p.Run(t, "pull", "--quiet", "--tls-verify=false", "--authfile", harness.AuthFile(t, login), image)
	if out, err := p.Container(t, image); err != nil {
		t.Errorf("podman can't run it: %v: %s", err, out)
	}

	containerd := harness.StartContainerd(t)
	_, username, password := sandbox.RegistryAuth(harness.Charm, harness.ImageResource)
	for _, args := range [][]string{
		{"images", "pull", "--plain-http", "--snapshotter", "native", "--user", username + ":" + password, image},
		{"run", "--rm", "--snapshotter", "native", image, "honest"},
	} {
		if out, err := harness.AsRoot("ctr", append([]string{"--address", containerd},
			args...)...).CombinedOutput(); err != nil {
			t.Errorf("ctr %s: %v: %s", args[0], err, out)
		}
	}
}

// TestForgedIndex: an index with a foreign image for this platform, annotated as if it were an attestation, isn't taken
// for the index that an engine has: runtimes take the foreign image.
func TestForgedIndex(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		harness.Need(t, "docker")
		e := harness.WatchEngine(t, strings.TrimPrefix(harness.StartContainerdStore(t), "DOCKER_HOST="))
		honest, _ := shellImage(t)
		platform := &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
		built := harness.WithAttestation(t, honest, `{"build": 1}`)
		host := harness.StartRegistry(t)
		source := harness.Push(t, host+"/image", built)
		e.Docker(t, "pull", "--quiet", host+"/image@"+source)

		layer := foreign(t)
		foreignImage := claiming(t, []string{harness.DigestOf(layer)},
			static.NewLayer(harness.Gzip(t, layer), types.OCILayer))
		attestation := map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": harness.DigestOfImage(t, honest),
		}
		forged := mutate.IndexMediaType(mutate.AppendManifests(empty.Index,
			mutate.IndexAddendum{Add: foreignImage, Descriptor: v1.Descriptor{Platform: platform, Annotations: attestation}},
			mutate.IndexAddendum{Add: honest, Descriptor: v1.Descriptor{Platform: platform}},
		), types.OCIImageIndex)
		for _, tool := range []string{"crane", "skopeo"} {
			t.Run(tool, func(t *testing.T) {
				sandbox := harness.StartSandbox(t, options)
				p := newPusher(t, sandbox)
				digest := p.push(t, tool, forged, "latest")
				p.record(t, harness.DigestOfImage(t, honest), map[string]string{recordedImage: digest})
				dockerTakes(t, p, digest, foreignImage)

				r := harness.Upload(t, sandbox, append(slices.Clone(e.Env), "resource="+harness.ImageResource, "digest="+source)...)
				r.Succeeded(t)
				r.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "true", "remote-digest": source})
				runsEverywhere(t, sandbox, source)
			})
		}
	})
}

// dockerTakes fails the test unless docker pulls an image out of an index.
func dockerTakes(t *testing.T, p pusher, index string, img v1.Image) {
	t.Helper()
	want, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	harness.RemoveImage(t, want.String())
	harness.Tool(t, "docker", "--config", p.login, "pull", "--quiet", p.repository+"@"+index)
	if got := harness.Tool(t, "docker", "inspect", "--format", "{{.Id}}", p.repository+"@"+index); got != want.String() {
		t.Errorf("docker takes %s out of the forged index, not the foreign image %s: this test proves nothing", got, want)
	}
}

// TestForgedImage: an image that has the right config and other layers is published under no circumstances, and no
// layer of it becomes part of another image, whatever somebody without the store token tagged and recorded.
func TestForgedImage(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker", "crane", "skopeo")
	honest, _ := shellImage(t)
	e := harness.GraphDriverEngine(t)
	id := e.Load(t, honest)
	input := "digest=" + id
	want := harness.RemoteDigest(t, input)
	type attack struct {
		sandbox *server.Server
		pusher
		other pusher // of another charm's repository

		liar      v1.Image // has the honest image's config
		layerLiar v1.Image // has a config of its own, which lists the honest image's layers
	}
	// recorded records both liars as what the honest image, and the other one's config, became.
	recorded := func(t *testing.T, a attack, annotations map[string]string) {
		t.Helper()
		for source, img := range map[string]v1.Image{id: a.liar, configDigest(t, a.layerLiar): a.layerLiar} {
			all := maps.Clone(annotations)
			digest := a.push(t, "skopeo", img, "recorded")
			all[recordedImage] = digest
			if _, ok := all[recordedVerified]; ok {
				all[recordedVerified] = digest
			}
			a.record(t, source, all)
		}
		a.push(t, "crane", a.layerLiar, "latest")
	}
	tests := map[string]struct {
		forge func(t *testing.T, a attack)
		logs  string
	}{
		"tagged by crane": {func(t *testing.T, a attack) { t.Helper(); a.push(t, "crane", a.liar, "latest") },
			logOtherLayers},
		"tagged by skopeo": {func(t *testing.T, a attack) { t.Helper(); a.push(t, "skopeo", a.liar, "latest") },
			logOtherLayers},
		"recorded": {func(t *testing.T, a attack) { t.Helper(); recorded(t, a, map[string]string{}) }, logOtherLayers},
		"verified": {func(t *testing.T, a attack) { t.Helper(); recorded(t, a, map[string]string{recordedVerified: ""}) },
			logOtherLayers},
		"with a forged proof": {func(t *testing.T, a attack) {
			t.Helper()
			recorded(t, a, map[string]string{recordedProofs: strings.Repeat("0123456789abcdef", 4)})
		}, logOtherLayers},
		"with the proof of the honest image": {func(t *testing.T, a attack) {
			t.Helper()
			harness.Upload(t, a.sandbox, "resource="+harness.ImageResource, input).Succeeded(t)
			a.edit(t, id, map[string]string{recordedImage: a.push(t, "skopeo", a.liar, "latest")})
		}, logOtherLayers},
		"with the proof of another token": {func(t *testing.T, a attack) {
			t.Helper()
			harness.Upload(t, a.sandbox, "resource="+harness.ImageResource, input,
				"store-token="+a.sandbox.Mint(server.Grant{})).Succeeded(t)
			a.edit(t, id, map[string]string{recordedImage: a.push(t, "skopeo", a.liar, "latest")})
		}, logOtherLayers},
		"with the proof of another charm": {func(t *testing.T, a attack) {
			t.Helper()
			harness.Upload(t, a.sandbox, "charm="+otherCharm, "resource="+harness.ImageResource, input).Succeeded(t)
			a.copyFrom(t, a.other, ":"+recordTag(id), recordTag(id))
			a.edit(t, id, map[string]string{recordedImage: a.push(t, "skopeo", a.liar, "latest")})
		}, logOtherLayers},
		"the honest image, of another token": {func(t *testing.T, a attack) {
			t.Helper()
			harness.Upload(t, a.sandbox, "resource="+harness.ImageResource, input,
				"store-token="+a.sandbox.Mint(server.Grant{})).Succeeded(t)
		}, logComparing},
		"the honest image, of another charm": {func(t *testing.T, a attack) {
			t.Helper()
			harness.Upload(t, a.sandbox, "charm="+otherCharm, "resource="+harness.ImageResource, input).Succeeded(t)
			a.copyFrom(t, a.other, "@"+want, "v1")
			a.copyFrom(t, a.other, ":"+recordTag(id), recordTag(id))
		}, logComparing},
	}
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				sandbox, other := startWithOtherCharm(t, options)
				test.forge(t, attack{
					sandbox, newPusher(t, sandbox), other,
					withForeignLayers(t, honest), liarAbout(t, configOf(t, honest).RootFS.DiffIDs),
				})
				r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, input)
				if r.Exit != 0 || !strings.Contains(r.Log, test.logs) {
					t.Errorf("exit %d, want 0, and %q in the log:\n%s", r.Exit, test.logs, r.Log)
				}
				r.HasOutputs(t, map[string]string{"revision": "1", "remote-digest": want})
				harness.LayersMatchDiffIDs(t, sandbox, want)
				// The run wrote a proof: the next one reads no layer.
				again := harness.Upload(t, sandbox, "resource="+harness.ImageResource, input)
				again.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "false", "remote-digest": want})
				if strings.Contains(again.Log, logComparing) {
					t.Errorf("the layers were compared once more:\n%s", again.Log)
				}
			})
		}
		t.Run("runs", func(t *testing.T) {
			sandbox := harness.StartSandbox(t, options)
			newPusher(t, sandbox).push(t, "skopeo", withForeignLayers(t, honest), "latest")
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, input)
			r.HasOutputs(t, map[string]string{"remote-digest": want})
			runsEverywhere(t, sandbox, want)
		})
	})
}

// configDigest returns the digest of an image's config, which is the image's ID.
func configDigest(t *testing.T, img v1.Image) string {
	t.Helper()
	digest, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// TestForgedKey: a record of a key means nothing without a proof of the same token for the same charm.
func TestForgedKey(t *testing.T) {
	t.Parallel()
	harness.Need(t, "crane", "skopeo")
	archive := harness.WriteImageArchive(t, 1000, 1)
	const key = "rock at commit 1"
	tag := recordTag(harness.DigestOf([]byte(key)))
	keyed := func(t *testing.T, sandbox *server.Server, inputs ...string) harness.Result {
		t.Helper()
		r := harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource, "image="+archive, "key="+key)...)
		r.Succeeded(t)
		return r
	}
	tests := map[string]func(t *testing.T, sandbox *server.Server, p, other pusher){
		"without a proof": func(t *testing.T, _ *server.Server, p, _ pusher) {
			t.Helper()
			digest := p.push(t, "crane", harness.PlatformImage(t, "linux/"+runtime.GOARCH), "latest")
			p.record(t, harness.DigestOf([]byte(key)), map[string]string{recordedImage: digest, recordedSource: digest})
		},
		"with a forged proof": func(t *testing.T, _ *server.Server, p, _ pusher) {
			t.Helper()
			digest := p.push(t, "skopeo", harness.PlatformImage(t, "linux/"+runtime.GOARCH), "latest")
			p.record(t, harness.DigestOf([]byte(key)), map[string]string{
				recordedImage: digest, recordedSource: digest, recordedProofs: strings.Repeat("0123456789abcdef", 4),
			})
		},
		"for another image": func(t *testing.T, sandbox *server.Server, p, _ pusher) {
			t.Helper()
			keyed(t, sandbox)
			p.edit(t, harness.DigestOf([]byte(key)), map[string]string{
				recordedImage: p.push(t, "crane", harness.PlatformImage(t, "linux/"+runtime.GOARCH), "latest"),
			})
		},
		"of another source": func(t *testing.T, sandbox *server.Server, p, _ pusher) {
			t.Helper()
			keyed(t, sandbox)
			p.edit(t, harness.DigestOf([]byte(key)), map[string]string{recordedSource: harness.DigestOf([]byte("another"))})
		},
		"of another key": func(t *testing.T, sandbox *server.Server, p, _ pusher) {
			t.Helper()
			harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive, "key=another").Succeeded(t)
			p.copyFrom(t, p, ":"+recordTag(harness.DigestOf([]byte("another"))), tag)
		},
		"of another token": func(t *testing.T, sandbox *server.Server, _, _ pusher) {
			t.Helper()
			keyed(t, sandbox, "store-token="+sandbox.Mint(server.Grant{}))
		},
		"of another charm": func(t *testing.T, sandbox *server.Server, p, other pusher) {
			t.Helper()
			r := keyed(t, sandbox, "charm="+otherCharm)
			p.copyFrom(t, other, "@"+r.Outputs["remote-digest"], "v1")
			p.copyFrom(t, other, ":"+tag, tag)
		},
	}
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		for name, forge := range tests {
			t.Run(name, func(t *testing.T) {
				sandbox, other := startWithOtherCharm(t, options)
				forge(t, sandbox, newPusher(t, sandbox), other)
				asked := harness.Upload(t, sandbox, harness.NoEngine(t), "resource="+harness.ImageResource, "key="+key)
				asked.Succeeded(t)
				asked.Logged(t, "No image is recorded under this key; digest and image are empty, so this was a look-up")
				asked.HasOutputs(t, map[string]string{"revision": "", "remote-digest": "", "uploaded": "false"})
				built := keyed(t, sandbox)
				known := harness.Upload(t, sandbox, harness.NoEngine(t), "resource="+harness.ImageResource, "key="+key)
				known.HasOutputs(t, map[string]string{"revision": built.Outputs["revision"],
					"remote-digest": built.Outputs["remote-digest"]})
			})
		}
	})
}

// TestTwoTokens: pipelines with a token each don't undo each other's proofs.
func TestTwoTokens(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 2)
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	other := "store-token=" + sandbox.Mint(server.Grant{})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	first.Succeeded(t)
	compared := harness.Upload(t, sandbox, other, "resource="+harness.ImageResource, "image="+archive)
	compared.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "false",
		"remote-digest": first.Outputs["remote-digest"]})
	if !strings.Contains(compared.Log, logComparing) {
		t.Errorf("nothing was compared:\n%s", compared.Log)
	}
	harness.Rerun(t, sandbox, first, "image="+archive)
	harness.Rerun(t, sandbox, first, "image="+archive, other)
}

// TestImageOfAnotherTool: the first run compares the layers of an image that another tool pushed, sends none of them,
// and makes no revision of what is one. The next takes no more requests than after an upload by the action.
func TestImageOfAnotherTool(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker", "crane", "skopeo")
	honest, plain := shellImage(t)
	id := harness.GraphDriverEngine(t).Load(t, honest)
	tests := map[string]func(t *testing.T, p pusher){
		"skopeo": func(t *testing.T, p pusher) { t.Helper(); p.skopeo(t, "docker-daemon:"+id, "latest") },
		"docker": func(t *testing.T, p pusher) {
			t.Helper()
			harness.Tool(t, "docker", "tag", id, p.repository+":latest")
			harness.Tool(t, "docker", "--config", p.login, "push", "--quiet", p.repository+":latest")
			harness.Tool(t, "docker", "rmi", p.repository+":latest")
		},
		"crane, of the saved image": func(t *testing.T, p pusher) {
			t.Helper()
			saved := filepath.Join(t.TempDir(), "saved.tar")
			harness.Tool(t, "docker", "save", "--output", saved, id)
			p.crane(t, "push", saved, p.repository)
		},
		// As charmcraft 4 pushes an image of an engine: without a tag, and with layers that are said to be compressed.
		"charmcraft": func(t *testing.T, p pusher) {
			t.Helper()
			p.push(t, "crane", plain, "latest")
		},
	}
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		ordinary := harness.StartSandbox(t, options)
		harness.Upload(t, ordinary, "resource="+harness.ImageResource, "digest="+id).Succeeded(t)
		ordinary.ResetRequests()
		harness.Upload(t, ordinary, "resource="+harness.ImageResource, "digest="+id).Succeeded(t)
		requests := len(ordinary.Requests())
		if requests > 9 {
			t.Errorf("an ordinary unchanged run takes %d requests: %v", requests, ordinary.Requests())
		}
		for name, push := range tests {
			t.Run(name, func(t *testing.T) {
				sandbox := harness.StartSandbox(t, options)
				p := newPusher(t, sandbox)
				push(t, p)
				pushed := p.crane(t, "digest", p.repository+":latest")
				made := harness.Upload(t, sandbox, harness.NoEngine(t), "resource="+harness.ImageResource, "digest="+pushed)
				made.Succeeded(t)
				made.HasOutputs(t, map[string]string{"revision": "1", "revision-created": "true", "uploaded": "false"})
				sandbox.ResetRequests()

				first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id)
				first.Succeeded(t)
				first.Logged(t, harness.LogKnown, harness.LogUnchanged(harness.ImageResource, "1"))
				first.HasOutputs(t, map[string]string{
					"revision": "1", "revision-created": "false", "uploaded": "false", "source-digest": id, "remote-digest": pushed,
				})
				sentOnlyRecord(t, sandbox, id)
				harness.RerunWithin(t, requests, sandbox, first, "digest="+id)
			})
		}
	})
}

// sentOnlyRecord fails the test if the registry was given another manifest than the record of a source, or another blob
// than a record has.
func sentOnlyRecord(t *testing.T, sandbox *server.Server, source string) {
	t.Helper()
	if n := harness.SentLayers(t, sandbox); n >= 0 {
		t.Errorf("%d blobs were sent beside the record's", n+1)
	}
	for _, r := range sandbox.Requests() {
		if strings.Contains(r.Path, "/blobs/uploads/") && r.BodyBytes > 1000 {
			t.Errorf("more was sent than a record: %s", r)
		}
		if r.Server == "registry" && r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/") &&
			!strings.HasSuffix(r.Path, recordTag(source)) {
			t.Errorf("a manifest was sent: %s", r)
		}
	}
}

// TestLostLayer: registries are relied on to keep the blobs of a manifest. If one has lost a layer, an unchanged image
// is still unchanged; an image that has yet to be compared is packed and sent.
func TestLostLayer(t *testing.T) {
	t.Parallel()
	harness.Need(t, "crane", "skopeo")
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		archive, img, _ := harness.SaveImage(t)
		lose := func(t *testing.T, sandbox *server.Server, p pusher, digest string) {
			t.Helper()
			var m struct{ Layers []struct{ Digest string } }
			if err := json.Unmarshal([]byte(p.crane(t, "manifest", p.repository+"@"+digest)), &m); err != nil {
				t.Fatal(err)
			}
			sandbox.Fault(func(r server.Request) *server.Fault {
				if strings.HasSuffix(r.Path, "/blobs/"+m.Layers[0].Digest) {
					return &server.Fault{Status: http.StatusNotFound,
						Body: `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}`}
				}
				return nil
			})
		}
		t.Run("unchanged", func(t *testing.T) {
			sandbox := harness.StartSandbox(t, options)
			first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
			first.Succeeded(t)
			lose(t, sandbox, newPusher(t, sandbox), first.Outputs["remote-digest"])
			harness.Rerun(t, sandbox, first, "image="+archive)
		})
		t.Run("of another tool", func(t *testing.T) {
			sandbox := harness.StartSandbox(t, options)
			p := newPusher(t, sandbox)
			pushed := p.push(t, "crane", img, "latest")
			lose(t, sandbox, p, pushed)
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
			r.Succeeded(t)
			r.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "true"})
			if want := "can't be compared with the image to be uploaded; it isn't used"; !strings.Contains(r.Log, want) {
				t.Errorf("the log lacks %q:\n%s", want, r.Log)
			}
			if r.Outputs["remote-digest"] == pushed {
				t.Errorf("the image that lacks a layer was published")
			}
			harness.LayersMatchDiffIDs(t, sandbox, r.Outputs["remote-digest"])
		})
	})
}
