package imagetest

import (
	"bytes"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Rich returns a layout with content that other tools tend to lose: nested indexes, an attestation, layers of every
// type, annotations and unknown fields. Root is its outermost index.
func Rich() (l Layout, root v1.Descriptor) {
	l = NewLayout()
	foreign := v1.Descriptor{
		MediaType: types.DockerForeignLayer,
		Digest:    Sum([]byte("not here")),
		Size:      8,
		URLs:      []string{"https://example.com/layer"},
	}
	arm := l.Image("linux/arm64/v8", l.Blob(types.OCILayerZStd, []byte("layer")), foreign)
	attestation := Annotate(WithPlatform(l.Image("unknown/unknown", l.Blob("application/vnd.in-toto+json", []byte("{}"))),
		"unknown/unknown"), "vnd.docker.reference.type", "attestation-manifest")
	nested := l.Index(WithPlatform(arm, "linux/arm64/v8"), attestation)
	windows := WithPlatform(l.Image("windows/amd64:10.0.14393"), "windows/amd64:10.0.14393")
	raw := JSON(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Annotations: map[string]string{"org.example": "kept"},
		Manifests: []v1.Descriptor{l.Image("linux/amd64"), nested, windows},
	})
	raw = bytes.Replace(raw, []byte("{"), []byte("{ \n\t\"io.example.unknown\": [1, 2],"), 1)
	root = l.Blob(types.OCIImageIndex, raw)
	return l.Of(Annotate(root, "org.opencontainers.image.ref.name", "latest")), root
}

// Manifest is the common part of an image and an index.
type Manifest interface {
	Digest() (v1.Hash, error)
	Size() (int64, error)
	RawManifest() ([]byte, error)
}

// SameTree fails the test unless m, and everything to which it refers, equals the files of the layout.
func SameTree(t *testing.T, m Manifest, l Layout) {
	t.Helper()
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.RawManifest()
	if err != nil || !bytes.Equal(raw, l[BlobName(digest)]) {
		t.Errorf("the manifest %s became %q, %v", digest, raw, err)
	}
	if size, err := m.Size(); err != nil || size != int64(len(raw)) {
		t.Errorf("its size is %d, %v", size, err)
	}
	switch m := m.(type) {
	case v1.ImageIndex:
		index, err := m.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range index.Manifests {
			SameTree(t, ChildOf(t, m, d), l)
		}
	case v1.Image:
		sameLayers(t, m, l)
	}
}

// ChildOf returns an image or index that an index lists.
func ChildOf(t *testing.T, index v1.ImageIndex, d v1.Descriptor) Manifest {
	t.Helper()
	if d.MediaType.IsIndex() {
		child, err := index.ImageIndex(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return child
	}
	child, err := index.Image(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return child
}

// sameLayers fails the test unless the layers of an image equal the files of the layout. A layer that the layout lacks
// must be reported with its digest.
func sameLayers(t *testing.T, img v1.Image, l Layout) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		digest, _ := layer.Digest()
		content, err := layer.Compressed()
		want, ok := l[BlobName(digest)]
		if !ok {
			if err == nil || !strings.Contains(err.Error(), digest.String()) {
				t.Errorf("absent layer %s: %v", digest, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("layer %s: %v", digest, err)
			continue
		}
		got, err := io.ReadAll(content)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("layer %s became %q, %v", digest, got, err)
		}
		_ = content.Close()
	}
}
