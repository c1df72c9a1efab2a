package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// set is a charm with several images in a registry, and a file.
type set struct {
	sandbox  *server.Server
	metadata string            // path of its charmcraft.yaml
	host     string            // of the registry
	digests  map[string]string // by resource; empty where the source doesn't exist
}

// newSet makes a charm with so many images. The first is named by its digest,
// others by tags, and the third is missing.
func newSet(t *testing.T, n int) set {
	t.Helper()
	s := set{host: anonymousRegistry(t), digests: map[string]string{}}
	declared := server.Charm{Name: charm, Resources: []server.Resource{{Name: fileResource, Type: server.TypeFile}}}
	text := "name: " + charm + "\nresources:\n  " + fileResource + ": {type: file, filename: x, upstream-source: nowhere}\n" +
		"  without-source: {type: oci-image}\n"
	for i := range n {
		resource := fmt.Sprintf("image-%d", i+1)
		source := s.host + "/" + resource
		declared.Resources = append(declared.Resources, server.Resource{Name: resource, Type: server.TypeImage})
		if s.digests[resource] = ""; i != 2 {
			s.digests[resource] = push(t, source, platformImage(t, "linux/amd64"))
		}
		switch i {
		case 0:
			source += "@" + s.digests[resource]
		case 1:
			source = "docker://" + source + ":latest"
		default:
			source += ":latest"
		}
		text += "  " + resource + ": {type: oci-image, upstream-source: \"" + source + "\"}\n"
	}
	s.metadata = filepath.Join(t.TempDir(), "charmcraft.yaml")
	writeFile(t, s.metadata, text)
	s.sandbox = startSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{declared}})
	return s
}

// complete fails the test unless the outputs tell of every image but the
// missing one.
func (s set) complete(t *testing.T, r result, created bool) {
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
	for _, name := range slices.Sorted(maps.Keys(s.digests)) {
		digest := s.digests[name]
		if digest == "" {
			continue
		}
		repository, _, _ := s.sandbox.RegistryAuth(charm, name)
		want = append(want, resource{name, 1, created, digest, repository + "@" + digest, digest, created})
		flags = append(flags, "--resource="+name+":1")
	}
	if err := json.Unmarshal([]byte(r.outputs["resources"]), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output resources (-want +got):\n%s", diff)
	}
	r.has(t, map[string]string{"resource-flags": strings.Join(flags, " "), "revision": "", "remote-image": "", "resource-flag": "",
		"revision-created": strconv.FormatBool(created), "uploaded": strconv.FormatBool(created)})
}

// TestMetadata: one image of six fails, and the others are uploaded and reported
// as if nothing were.
func TestMetadata(t *testing.T) {
	t.Parallel()
	s := newSet(t, 6)
	together := meet(t, 4)
	s.sandbox.Fault(func(r server.Request) *server.Fault {
		if strings.HasSuffix(r.Path, "/upload-credentials") {
			together()
		}
		return nil
	})

	first := action(t, s.sandbox, "charm=", "metadata="+s.metadata)
	s.partlyFailed(t, first)
	first.logged(t, "image-1: "+logCreated("image-1", "1"), "image-6: "+logCreated("image-6", "1"))
	s.complete(t, first, true)
	if !strings.Contains(first.log, "5 created, 1 failed, 2 left out\n") {
		t.Errorf("the last line doesn't count:\n%s", first.log)
	}
	if !strings.Contains(first.summary, "<code>"+fileResource+"</code> | left out: of type file") {
		t.Errorf("the summary doesn't say what was left out:\n%s", first.summary)
	}

	s.sandbox.Fault(nil)
	s.sandbox.ResetRequests()
	again := action(t, s.sandbox, "charm="+charm, "metadata="+s.metadata)
	s.partlyFailed(t, again)
	again.logged(t, "image-1: "+logUnchanged("image-1", "1"))
	s.complete(t, again, false)
	if sent := changes(s.sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
	if asked := calls(s.sandbox, "/v1/charm/"+charm+"/resources"); asked != 1 {
		t.Errorf("the list of resources was asked for %d times, want once for all", asked)
	}
}

// partlyFailed fails the test unless the run complains of the missing image,
// once, and of nothing else.
func (s set) partlyFailed(t *testing.T, r result) {
	t.Helper()
	if r.exit != 1 || errorLines(r) != 1 {
		t.Fatalf("exit %d with %d errors, want 1 with 1:\n%s", r.exit, errorLines(r), r.log)
	}
	for _, fragment := range []string{"1 of 6 resources failed", "resource 'image-3'", s.host + "/image-3:latest"} {
		if !strings.Contains(theError(r), fragment) {
			t.Errorf("the error doesn't say %q:\n%s", fragment, theError(r))
		}
	}
	if strings.Contains(theError(r), "image-4") || strings.Contains(r.log, "::group::") {
		t.Errorf("the lines about concurrent images are mixed:\n%s", r.log)
	}
	for name, digest := range s.digests {
		want := 1
		if digest == "" {
			want = 0
		}
		if n := len(s.sandbox.Revisions(charm, name)); n != want {
			t.Errorf("resource %s has %d revisions, want %d", name, n, want)
		}
		if !strings.Contains(r.summary, name) {
			t.Errorf("the summary is silent about %s:\n%s", name, r.summary)
		}
	}
}

// meet returns what makes its first n callers wait for each other. A caller
// that waits for too long fails the test.
func meet(t *testing.T, n int) func() {
	t.Helper()
	var mu sync.Mutex
	all := make(chan struct{})
	came := 0
	return func() {
		mu.Lock()
		if came++; came == n {
			close(all)
		}
		mu.Unlock()
		select {
		case <-all:
		case <-time.After(30 * time.Second):
			t.Errorf("not all %d came", n)
		}
	}
}

// calls counts the requests for a path.
func calls(sandbox *server.Server, path string) (n int) {
	for _, r := range sandbox.Requests() {
		if r.Path == path {
			n++
		}
	}
	return n
}

// TestMetadataAfterAFailure: the values of the one success aren't reported as if they were the
// only resource; that the other's image was sent is.
func TestMetadataAfterAFailure(t *testing.T) {
	t.Parallel()
	s := newSet(t, 2)
	action(t, s.sandbox, "metadata="+s.metadata).succeeded(t)
	push(t, s.host+"/image-2", platformImage(t, "linux/arm64"))
	s.sandbox.Fault(func(r server.Request) *server.Fault {
		if strings.HasSuffix(r.Path, "/resources/image-2/oci-image/blob") {
			return &server.Fault{Status: http.StatusBadRequest}
		}
		return nil
	})
	r := action(t, s.sandbox, "metadata="+s.metadata)
	if r.exit != 1 {
		t.Fatalf("exit %d, want 1:\n%s", r.exit, r.log)
	}
	r.has(t, map[string]string{
		"revision": "", "remote-digest": "", "remote-image": "", "source-digest": "", "resource-flag": "",
		"resource-flags": "--resource=image-1:1", "revision-created": "false", "uploaded": "true",
	})
	if strings.Contains(r.outputs["resources"], "image-2") {
		t.Errorf("the one that failed is among %s", r.outputs["resources"])
	}
}

// A tag that moved is another image in the next run; one that didn't, is not.
func TestMetadataFollowsTags(t *testing.T) {
	t.Parallel()
	s := newSet(t, 2)
	action(t, s.sandbox, "metadata="+s.metadata).succeeded(t)
	moved := push(t, s.host+"/image-2", platformImage(t, "linux/arm64"))
	second := action(t, s.sandbox, "metadata="+s.metadata)
	second.succeeded(t)
	second.logged(t, "image-1: "+logUnchanged("image-1", "1"), "image-2: "+logCreated("image-2", "2"))
	if !strings.Contains(second.outputs["resources"], moved) {
		t.Errorf("the moved image %s isn't in %s", moved, second.outputs["resources"])
	}
	second.has(t, map[string]string{"resource-flags": "--resource=image-1:1 --resource=image-2:2"})
}

func TestMetadataDryRun(t *testing.T) {
	t.Parallel()
	s := newSet(t, 2)
	r := dryRun(t, s.sandbox, []string{"metadata=" + s.metadata})
	r.logged(t, "image-2: Dry run: would create a revision of resource 'image-2' for charm '"+charm+"'")
	r.has(t, map[string]string{"resource-flags": ""})
	for _, digest := range s.digests {
		if !strings.Contains(r.outputs["resources"], digest) {
			t.Errorf("%s isn't in %s", digest, r.outputs["resources"])
		}
	}
}

func TestMetadataFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text   string
		inputs []string
		want   string
	}{
		"no images":      {"name: " + charm, nil, "no resource of type oci-image with an upstream-source"},
		"no name":        {"resources: {a: {type: oci-image, upstream-source: x}}", []string{"charm="}, "give the charm's with the input charm"},
		"unknown charm":  {"name: other\nresources: {a: {type: oci-image, upstream-source: x@" + someDigest + "}}", []string{"charm="}, "knows no charm 'other'"},
		"not YAML":       {"a: [", nil, "charmcraft.yaml: yaml:"},
		"two sources":    {"", []string{"digest=" + someDigest}, "inputs digest, metadata: given together"},
		"and a resource": {"", []string{"resource=" + imageResource}, "leave out resource"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "charmcraft.yaml")
			writeFile(t, path, test.text)
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := action(t, sandbox, append(test.inputs, "metadata="+path)...)
			if r.exit != 1 || errorLines(r) != 1 || !strings.Contains(theError(r), test.want) {
				t.Errorf("exit %d, want 1 with one error that says %q:\n%s", r.exit, test.want, r.log)
			}
		})
	}
}
