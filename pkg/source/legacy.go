package source

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Engines up to 24 save a layer as <v1 ID>/layer.tar, after <v1 ID>/json. The v1 ID is a hash over that JSON, the
// parent's ID and the layer's chain ID, so it announces which layer follows before the layer is read. It proves
// nothing: whoever uses the layer compares its diff ID.

// legacyLayer returns the diff ID of a layer that was saved under the name id with the v1 JSON doc. It returns false if
// none of diffIDs hashes to id.
func legacyLayer(id string, doc []byte, diffIDs []v1.Hash) (v1.Hash, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(doc, &fields) != nil || fields == nil {
		return v1.Hash{}, false
	}
	delete(fields, "id")
	if parent, ok := fields["parent"]; ok && len(parent) > 2 {
		fields["parent"] = json.RawMessage(`"sha256:` + string(parent[1:]))
	}
	// The engine adds "os" after hashing, except to the topmost layer.
	withoutOS := maps.Clone(fields)
	delete(withoutOS, "os")
	chain := make([]digest.Digest, len(diffIDs))
	for i, diffID := range diffIDs {
		chain[i] = digest.Digest(diffID.String())
	}
	for i, chainID := range identity.ChainIDs(chain) {
		if hashesTo(id, fields, chainID.String()) || hashesTo(id, withoutOS, chainID.String()) {
			return diffIDs[i], true
		}
	}
	return v1.Hash{}, false
}

// hashesTo reports whether the v1 JSON fields hash to id for the layer with that chain ID.
func hashesTo(id string, fields map[string]json.RawMessage, chainID string) bool {
	fields["layer_id"] = json.RawMessage(`"` + chainID + `"`)
	doc, err := json.Marshal(fields) // sorts the keys, as the engine does
	if err != nil {
		return false
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:]) == id
}
