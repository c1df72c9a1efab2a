package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxProofs is how many proofs a record keeps, so that pipelines with different tokens don't undo each other's.
const maxProofs = 4

// The kinds of statements that a proof can be for.
const (
	layersKind = "layers" // every layer of the manifest has the diff ID that the manifest's config gives it
	keyKind    = "key"    // the key means the manifest
)

// prover makes and checks the proofs of records. A proof is an HMAC-SHA-256 under a key that only holders of the store token
// can derive. It covers the whole statement, so it is worth nothing for another repository, source or manifest.
type prover struct {
	key        []byte // empty makes and believes no proof
	repository string // its path, which has the charm's id
}

// proof returns the proof of a statement, "" without a key.
func (p prover) proof(kind string, digests ...v1.Hash) string {
	if len(p.key) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, p.key)
	_, _ = mac.Write([]byte(kind + "\n" + p.repository)) // a hash never fails to write
	for _, digest := range digests {
		_, _ = mac.Write([]byte("\n" + digest.String()))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// believes reports whether a record proves that source became the manifest and that its layers have their diff IDs.
func (p prover) believes(said record, source, manifest v1.Hash) bool {
	return said.image == manifest && p.amongst(said.proofs, p.proof(layersKind, source, manifest))
}

// believesKey reports whether a record proves that the key means the manifest, and from which source that was made.
func (p prover) believesKey(said record, key, manifest v1.Hash) bool {
	return said.image == manifest && p.amongst(said.proofs, p.proof(keyKind, key, manifest, said.source))
}

func (p prover) amongst(proofs []string, want string) bool {
	return want != "" && slices.ContainsFunc(proofs, func(given string) bool {
		return hmac.Equal([]byte(given), []byte(want))
	})
}

// parseProofs reads the annotation of a record; it keeps maxProofs.
func parseProofs(text string) []string {
	proofs := strings.SplitN(text, ",", maxProofs+1)
	return proofs[:min(len(proofs), maxProofs)]
}

// formatProofs puts a proof before those that a record has already.
func formatProofs(newest string, older []string) string {
	older = slices.DeleteFunc(slices.Clone(older), func(proof string) bool { return proof == newest || len(proof) != 2*sha256.Size })
	all := append([]string{newest}, older...)
	return strings.Join(all[:min(len(all), maxProofs)], ",")
}
