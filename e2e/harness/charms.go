package harness

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// ResourceRevisions are the revisions of resources.
type ResourceRevisions = map[string]int

// Ubuntu returns the base for a version of Ubuntu, such as 24.04.
func Ubuntu(channel, architecture string) server.ReleaseBase {
	return server.ReleaseBase{Name: "ubuntu", Channel: channel, Architecture: architecture}
}

// Bases of charms.
var (
	Jammy    = Ubuntu("22.04", "amd64")
	Noble    = Ubuntu("24.04", "amd64")
	NobleArm = Ubuntu("24.04", "arm64")
)

// CharmMetadata is the metadata.yaml of the charm that StartCharm makes.
var CharmMetadata = charmtest.Metadata(Charm)

// WriteCharmFile writes a charm file and returns its path.
func WriteCharmFile(t *testing.T, metadata string, bases ...server.ReleaseBase) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "my-charm.charm")
	WriteFile(t, path, charmtest.File(t, metadata, bases...))
	return path
}

// StartCharm starts a sandbox whose charm has the tracks latest and 2, and may have those such as 3.0, a revision for
// each of these lists of bases, and two revisions of its image and its file.
func StartCharm(t *testing.T, options server.Options, revisions ...[]server.ReleaseBase) *server.Server {
	t.Helper()
	options.InMemory = true
	options.Charms = []server.Charm{{Name: Charm, Tracks: []string{"2"}, Guardrails: []string{`[0-9]+\.[0-9]+`}}}
	sandbox := StartSandbox(t, options)
	for _, bases := range revisions {
		sandbox.PutCharm(Charm, strings.NewReader(charmtest.File(t, CharmMetadata, bases...)))
	}
	for n := range 2 * min(1, len(revisions)) {
		sandbox.PutResource(Charm, ImageResource, strings.NewReader(fmt.Sprint("image ", n)))
		sandbox.PutResource(Charm, FileResource, strings.NewReader(fmt.Sprint("file ", n)))
	}
	return sandbox
}

// HasReleases fails the test unless this is the channel map, in its order.
func HasReleases(t *testing.T, sandbox *server.Server, want ...server.Release) {
	t.Helper()
	if diff := cmp.Diff(want, sandbox.Releases(Charm)); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
}

// UpstreamCharm is a charm with several images in a registry, and a file.
type UpstreamCharm struct {
	Sandbox  *server.Server
	Metadata string            // path of its charmcraft.yaml
	Host     string            // of the registry
	Digests  map[string]string // by resource; empty where the source doesn't exist
}

// NewUpstreamCharm makes a charm with so many images. The first is named by its digest, others by tags, and the third
// is missing.
func NewUpstreamCharm(t *testing.T, n int) UpstreamCharm {
	t.Helper()
	s := UpstreamCharm{Host: StartRegistry(t), Digests: map[string]string{}}
	declared := server.Charm{Name: Charm, Resources: []server.Resource{{Name: FileResource, Type: server.TypeFile}}}
	text := "name: " + Charm + "\nresources:\n  " + FileResource +
		": {type: file, filename: x, upstream-source: nowhere}\n  without-source: {type: oci-image}\n"
	for i := range n {
		resource := fmt.Sprintf("image-%d", i+1)
		source := s.Host + "/" + resource
		declared.Resources = append(declared.Resources, server.Resource{Name: resource, Type: server.TypeImage})
		if s.Digests[resource] = ""; i != 2 {
			s.Digests[resource] = Push(t, source, PlatformImage(t, "linux/amd64"))
		}
		switch i {
		case 0:
			source += "@" + s.Digests[resource]
		case 1:
			source = "docker://" + source + ":latest"
		default:
			source += ":latest"
		}
		text += "  " + resource + ": {type: oci-image, upstream-source: \"" + source + "\"}\n"
	}
	s.Metadata = filepath.Join(t.TempDir(), "charmcraft.yaml")
	WriteFile(t, s.Metadata, text)
	s.Sandbox = StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{declared}})
	return s
}

// Complete fails the test unless the outputs tell of every image but the missing one.
func (s UpstreamCharm) Complete(t *testing.T, r Result, created bool) {
	t.Helper()
	type resource struct {
		Name         string `json:"name"`
		Revision     int    `json:"revision"`
		Created      bool   `json:"created"`
		RemoteDigest string `json:"remote-digest"`
		RemoteImage  string `json:"remote-image"`
		SourceDigest string `json:"source-digest"`
		Uploaded     bool   `json:"uploaded"`
	}
	var want, got []resource
	var flags []string
	for _, name := range slices.Sorted(maps.Keys(s.Digests)) {
		digest := s.Digests[name]
		if digest == "" {
			continue
		}
		repository, _, _ := s.Sandbox.RegistryAuth(Charm, name)
		want = append(want, resource{name, 1, created, digest, repository + "@" + digest, digest, created})
		flags = append(flags, "--resource="+name+":1")
	}
	if err := json.Unmarshal([]byte(r.Outputs["resources"]), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output resources (-want +got):\n%s", diff)
	}
	r.HasOutputs(t, map[string]string{"resource-flags": strings.Join(flags, " "), "revision": "", "remote-image": "",
		"resource-flag":    "",
		"revision-created": strconv.FormatBool(created), "uploaded": strconv.FormatBool(created)})
}

// PartlyFailed fails the test unless the run complains of the missing image, once, and of nothing else.
func (s UpstreamCharm) PartlyFailed(t *testing.T, r Result) {
	t.Helper()
	if r.Exit != 1 || CountErrors(r) != 1 {
		t.Fatalf("exit %d with %d errors, want 1 with 1:\n%s", r.Exit, CountErrors(r), r.Log)
	}
	for _, fragment := range []string{"1 of 6 resources failed", "resource 'image-3'", s.Host + "/image-3:latest"} {
		if !strings.Contains(ErrorText(r), fragment) {
			t.Errorf("the error doesn't say %q:\n%s", fragment, ErrorText(r))
		}
	}
	if strings.Contains(ErrorText(r), "image-4") || strings.Contains(r.Log, "::group::") {
		t.Errorf("the lines about concurrent images are mixed:\n%s", r.Log)
	}
	for name, digest := range s.Digests {
		want := 1
		if digest == "" {
			want = 0
		}
		if n := len(s.Sandbox.Revisions(Charm, name)); n != want {
			t.Errorf("resource %s has %d revisions, want %d", name, n, want)
		}
		if !strings.Contains(r.Summary, name) {
			t.Errorf("the summary is silent about %s:\n%s", name, r.Summary)
		}
	}
}

// PackedCharm is a charm that was packed for two architectures, with a rock for each, a file, and an image that is
// copied from another registry. Charmhub has its name, and nothing else.
type PackedCharm struct {
	Metadata, Upstream string
	Charms             [2]string // paths
	Rocks              [2]string
	File               string
	Inputs             []string
}

// NewPackedCharm packs a charm, and starts the registry that has its upstream image.
func NewPackedCharm(t *testing.T) (p PackedCharm) {
	t.Helper()
	p.Upstream = StartRegistry(t) + "/proxy"
	p.Metadata = "name: my-charm\nresources:\n  my-image: {type: oci-image}\n  my-file: {type: file}\n" +
		"  proxy: {type: oci-image, upstream-source: \"" + p.Upstream + "@" +
		Push(t, p.Upstream, PlatformImage(t, "linux/amd64")) + "\"}\n"
	p.Charms = [2]string{WriteCharmFile(t, p.Metadata, Noble), WriteCharmFile(t, p.Metadata, NobleArm)}
	p.Rocks = [2]string{WriteRock(t, PlatformImage(t, "linux/amd64")), WriteRock(t, PlatformImage(t, "linux/arm64"))}
	p.File = filepath.Join(t.TempDir(), "rules.txt")
	WriteFile(t, p.File, UniqueContent())
	p.Inputs = []string{
		"charms=" + p.Charms[0] + " " + p.Charms[1], "channel=latest/edge",
		"resources=my-image = " + p.Rocks[0] + " " + p.Rocks[1] + "\nmy-file = " + p.File,
	}
	return p
}

// Releases is what the channel has of the charm, whose files get numbers in any order.
func (p PackedCharm) Releases(sandbox *server.Server, resources ResourceRevisions) []server.Release {
	bases := map[server.ReleaseBase]int{}
	for _, r := range sandbox.CharmRevisions(Charm) {
		for _, base := range r.Bases {
			bases[base] = r.Number
		}
	}
	return []server.Release{
		{Channel: "latest/edge", Base: Noble, Revision: bases[Noble], Resources: resources},
		{Channel: "latest/edge", Base: NobleArm, Revision: bases[NobleArm], Resources: resources},
	}
}
