package publish

import (
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

// TestSummaryPicture draws the summary of an upload for the documents.
func TestSummaryPicture(t *testing.T) {
	revision, digest := 7, "sha256:9f2c41d0a7b85e63"+strings.Repeat("7a10c4e8d26b93f5", 3)
	r := Result{
		Target:       Target{"my-charm", "my-image"},
		Revised:      Revised{Revision: &revision, Created: true},
		RemoteDigest: digest, RemoteImage: "registry.jujucharms.com/charm/k3v9…/my-image@" + digest,
		SourceDigest: "sha256:41c0b7d2e85f96a3" + strings.Repeat("c4d8e26b93f57a10", 3),
		Platforms:    []v1.Platform{{OS: "linux", Architecture: "amd64"}},
		Blobs:        blobsOf(280_000, 1234, 780), Reused: blobsOf(20_000_000, 17_000_000), Uploaded: true,
		Took: 2510 * time.Millisecond,
	}
	summary := Summary([]Result{r}, "https://charmhub.io") + toRelease([]Result{r})
	testkit.Golden(t, "../../../docs/pictures/summary-upload.svg", testkit.Picture(summary))
}
