package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// SHA256Of returns the hexadecimal SHA-256 of a content.
func SHA256Of(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// ImageLines is the input image with several lines.
func ImageLines(lines ...string) string { return "image=" + strings.Join(lines, "\n") }

// DigestOfImage returns the digest of an image's manifest.
func DigestOfImage(t *testing.T, img v1.Image) string {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// DigestOf returns the digest of a content as OCI writes it, sha256:….
func DigestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
