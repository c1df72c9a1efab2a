package image

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry is an image for linux/amd64 as an index lists it, changed as asked.
func entry(t *testing.T, digest string, changes ...func(*v1.Descriptor)) v1.Descriptor {
	t.Helper()
	hash, err := v1.NewHash(digest)
	if err != nil {
		t.Fatal(err)
	}
	d := v1.Descriptor{
		MediaType: types.OCIManifestSchema1,
		Digest:    hash,
		Size:      100,
		Platform:  &v1.Platform{OS: "linux", Architecture: "amd64"},
	}
	for _, change := range changes {
		change(&d)
	}
	return d
}

// on returns a change to a descriptor that gives it a platform.
func on(os, architecture string) func(*v1.Descriptor) {
	return func(d *v1.Descriptor) { d.Platform = &v1.Platform{OS: os, Architecture: architecture} }
}

// attestation marks a descriptor as an attestation, as BuildKit does.
func attestation(d *v1.Descriptor) {
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
}

func TestRunnableImages(t *testing.T) {
	amd, arm := entry(t, digestA), entry(t, digestB, on("linux", "arm64"))
	// Docker, podman, skopeo and containerd take an entry by its platform, whatever its annotations say.
	annotated, attached := entry(t, digestB, attestation), entry(t, digestB, on("unknown", "unknown"), attestation)
	// More is an entry for another image, changed as asked.
	more := func(change func(*v1.Descriptor)) []v1.Descriptor {
		return []v1.Descriptor{amd, entry(t, digestB, change)}
	}
	noSystem, noArchitecture := entry(t, digestB, on("unknown", "amd64")), entry(t, digestB, on("linux", "unknown"))
	for name, test := range map[string]struct {
		listed, want []v1.Descriptor
	}{
		"images":                {[]v1.Descriptor{amd, arm}, []v1.Descriptor{amd, arm}},
		"with an attestation":   {[]v1.Descriptor{amd, attached}, []v1.Descriptor{amd}},
		"attached, unannotated": {more(on("unknown", "unknown")), []v1.Descriptor{amd}},
		"annotated alone":       {[]v1.Descriptor{amd, annotated}, []v1.Descriptor{amd, annotated}},
		"unknown system":        {[]v1.Descriptor{noSystem}, []v1.Descriptor{noSystem}},
		"unknown architecture":  {[]v1.Descriptor{noArchitecture}, []v1.Descriptor{noArchitecture}},
		"no platform":           {more(func(d *v1.Descriptor) { d.Platform = nil }), nil},
		"an index":              {more(func(d *v1.Descriptor) { d.MediaType = types.OCIImageIndex }), nil},
		"elsewhere":             {more(func(d *v1.Descriptor) { d.URLs = []string{"https://example.com"} }), nil},
		"embedded":              {more(func(d *v1.Descriptor) { d.Data = []byte("{}") }), nil},
		"embedded, empty":       {more(func(d *v1.Descriptor) { d.Data = []byte{} }), nil},
		"nothing":               {nil, nil},
	} {
		raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: test.listed})
		if err != nil {
			t.Fatal(err)
		}
		if name == "embedded, empty" { // which Go's encoder leaves out
			raw = []byte(
				`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"` +
					digestA + `","data":"","platform":{"os":"linux","architecture":"amd64"}}]}`,
			)
		}
		if diff := cmp.Diff(test.want, RunnableImages(raw)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := RunnableImages([]byte("{")); got != nil {
		t.Errorf("of damaged JSON: %v", got)
	}
}

func TestSameImages(t *testing.T) {
	amd, arm, other := entry(t, digestA), entry(t, digestB, on("linux", "arm64")), entry(t, digestB)
	list := func(all ...v1.Descriptor) []v1.Descriptor { return all }
	larger := entry(t, digestA, func(d *v1.Descriptor) { d.Size++ })
	dockers := entry(t, digestA, func(d *v1.Descriptor) { d.MediaType = types.DockerManifestSchema2 })
	for name, test := range map[string]struct {
		a, b []v1.Descriptor
		want bool
	}{
		"the same":         {list(amd, arm), list(amd, arm), true},
		"in another order": {list(amd, arm), list(arm, amd), true},
		"annotated":        {list(amd), list(entry(t, digestA, attestation)), true},
		"nothing":          {nil, nil, false},
		"fewer":            {list(amd, arm), list(amd), false},
		"more":             {list(amd), list(amd, arm), false},
		"one twice":        {list(amd, arm), list(amd, amd), false},
		"the other twice":  {list(amd, amd), list(amd, arm), false},
		"another digest":   {list(amd), list(other), false},
		"another platform": {list(amd), list(entry(t, digestA, on("linux", "arm64"))), false},
		"another size":     {list(amd), list(larger), false},
		"another type":     {list(amd), list(dockers), false},
	} {
		if got := SameImages(test.a, test.b); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
