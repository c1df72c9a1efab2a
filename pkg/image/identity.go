package image

import (
	"cmp"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Identity holds the digests by which an image can be found before any of it is read. The zero value identifies
// nothing.
type Identity struct {
	// Manifest is the digest of the image's manifest or of its index; zero if it isn't known.
	Manifest v1.Hash
	// Config is the digest of the image's config, which Docker calls the image ID; zero if it isn't known. A digest that
	// may be either a manifest's or a config's is in both fields.
	Config v1.Hash
	// Images are what an index has for runtimes to run, as [RunnableImages] lists them; nil if that isn't known. Each
	// cached build makes another attestation for the same images, and with it another index.
	Images []v1.Descriptor
}

// Digest returns the digest that users know the image by: its manifest's, or else its config's.
func (id Identity) Digest() v1.Hash { return cmp.Or(id.Manifest, id.Config) }
