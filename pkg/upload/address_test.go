package upload

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// TestWanted: of what an engine lists the same image is looked for as would be
// taken of the index itself.
func TestWanted(t *testing.T) {
	var images []v1.Descriptor
	for _, text := range []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"} {
		platform, err := v1.ParsePlatform(text)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, v1.Descriptor{Platform: platform})
	}
	for text, want := range map[string]string{
		"linux/arm": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "linux/arm64/v8": "linux/arm64", "linux/s390x": "",
	} {
		platform, err := image.ParsePlatform(text)
		if err != nil {
			t.Fatal(err)
		}
		i := &imageJob{job: &job{platform: &platform}}
		got := ""
		if d, ok := i.wanted(images); ok {
			got = d.Platform.String()
		}
		if got != want {
			t.Errorf("for %s it is %q, want %q", text, got, want)
		}
	}
}
