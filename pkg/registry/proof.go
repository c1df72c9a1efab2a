package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// record is the content of a record about a source or key. Anyone who may push can write records, so only a record with
// a proof is believed.
type record struct {
	image  v1.Hash // manifest digest of an image in this repository; zero if the record names none
	source v1.Hash // in a key's record, the digest of the image at its source; zero in other records
	proofs []string
	unread error // why the registry didn't give the record; nil if it did, or has none
}

// These annotations of a record's manifest are this program's own; imgpkg leaves them out and doesn't mind them.
const (
	imageAnnotation  = "com.github.charmhub-actions.upload-resource.image"  // the digest of the record's one image
	sourceAnnotation = "com.github.charmhub-actions.upload-resource.source" // the digest that a key's image has elsewhere
	proofsAnnotation = "com.github.charmhub-actions.upload-resource.proofs" // hex, comma-separated, the newest first
)

// recordTag returns the tag of the record about a source or key. imgpkg defines its form.
func recordTag(about v1.Hash) string {
	return about.Algorithm + "-" + about.Hex + ".image-locations.imgpkg"
}

// parseRecord reads a record from the annotations of its manifest.
func parseRecord(d *remote.Descriptor) (rec record, err error) {
	m, err := imageManifest(d.MediaType, d.Manifest)
	if err != nil {
		return rec, err
	}
	rec.proofs = parseProofs(m.Annotations[proofsAnnotation])
	rec.source, _ = v1.NewHash(m.Annotations[sourceAnnotation])
	rec.image, err = v1.NewHash(m.Annotations[imageAnnotation])
	return rec, err
}

// maxProofs is the maximum number of proofs in a record. Several are kept so that pipelines with different tokens don't
// remove each other's.
const maxProofs = 4

// The kinds of statements that a proof can be for.
const (
	layersKind = "layers" // every layer of the manifest has the diff ID that the manifest's config gives it
	keyKind    = "key"    // the key means the manifest
)

// prover makes and verifies the proofs of records. A proof is an HMAC-SHA-256 with a key that only holders of the store
// token can derive. It covers the whole statement, so it proves nothing about another repository, source or manifest.
type prover struct {
	proofKey   []byte // derived from the store token; if it is empty, no proof is made or believed
	repository string // its path, which has the charm's id
}

// proof returns the proof of a statement, "" if the prover has no key or kind is "". The statement is that about (a
// source or key) is the image in this repository, and that the image has the digest source elsewhere.
func (p prover) proof(kind string, about, image, source v1.Hash) string {
	if len(p.proofKey) == 0 || kind == "" {
		return ""
	}
	mac := hmac.New(sha256.New, p.proofKey)
	_, _ = fmt.Fprintf(mac, "%s\n%s\n%s\n%s\n%s", kind, p.repository, about, image, source) // a hash never fails to write
	return hex.EncodeToString(mac.Sum(nil))
}

// believes reports whether a record has a valid proof of its statement about a source or key.
func (p prover) believes(rec record, kind string, about v1.Hash) bool {
	want := p.proof(kind, about, rec.image, rec.source)
	return want != "" && slices.ContainsFunc(rec.proofs, func(given string) bool {
		return hmac.Equal([]byte(given), []byte(want))
	})
}

// parseProofs parses the annotation of a record. It returns the first maxProofs proofs.
func parseProofs(text string) []string {
	proofs := strings.SplitN(text, ",", maxProofs+1)
	return proofs[:min(len(proofs), maxProofs)]
}

// formatProofs returns the annotation with a new proof before the older ones. It drops malformed proofs and those over
// maxProofs.
func formatProofs(newest string, older []string) string {
	older = slices.DeleteFunc(
		slices.Clone(older),
		func(proof string) bool { return proof == newest || len(proof) != 2*sha256.Size },
	)
	all := append([]string{newest}, older...)
	return strings.Join(all[:min(len(all), maxProofs)], ",")
}
