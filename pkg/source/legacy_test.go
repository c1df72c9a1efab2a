package source

import (
	"context"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// What engine 20.10 saved of an image of three layers, lowest first.
var (
	legacyIDs = []string{
		"1198daec5d812de08aec80b94e5a8e66f83f3403b73375b0c1e4c2066f4e40b1",
		"4d37e590addb8d3368f6157df2e659742bd7806164eddd3c739ec91bee7e9943",
		"9af031f784c33e9a1cbf93e677a9f38f9ac2123c64048cc6322088d135bcdae6",
	}
	legacyDiffIDs = []v1.Hash{
		sha("8d132b169760148bd1cae0c55e9ee5227374fc8a66f471449d7d2e55ecccb819"),
		sha("3feb33f48b4b38025ad2833069902427eaae2cffab7eb3b4f4beecb2c715519e"),
		sha("e789107f68d276510782cb0860f79c4f9098c48f63011e43ae557b62642bdfc8"),
	}
)

// sha returns a SHA-256 digest from its hexadecimal digits.
func sha(hex string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: hex} }

// legacyDoc returns the JSON file of one layer in an archive that Docker 20.10 saved.
func legacyDoc(tb testing.TB, id string) []byte {
	tb.Helper()
	saved, err := filepath.Abs("../pack/testdata/docker-20.10.tar")
	if err != nil {
		tb.Fatal(err)
	}
	file, err := openTar(workspace.Workspace{}, saved)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	doc, err := readFile(context.Background(), file.open, id+"/json")
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

func TestLegacyLayer(t *testing.T) {
	for i, id := range legacyIDs {
		got, ok := legacyLayer(id, legacyDoc(t, id), legacyDiffIDs)
		if !ok || got != legacyDiffIDs[i] {
			t.Errorf("layer %d: got %s, %t, want %s", i, got, ok, legacyDiffIDs[i])
		}
	}
}

func TestLegacyLayerProvesNothing(t *testing.T) {
	doc := legacyDoc(t, legacyIDs[1])
	for name, try := range map[string]struct {
		id      string
		doc     []byte
		diffIDs []v1.Hash
	}{
		"another ID":            {legacyIDs[2], doc, legacyDiffIDs},
		"other layers":          {legacyIDs[1], doc, legacyDiffIDs[1:]},
		"another order":         {legacyIDs[1], doc, []v1.Hash{legacyDiffIDs[1], legacyDiffIDs[0]}},
		"no layers":             {legacyIDs[1], doc, nil},
		"no JSON":               {legacyIDs[1], []byte("{"), legacyDiffIDs},
		"no object":             {legacyIDs[1], []byte("null"), legacyDiffIDs},
		"a parent of any type":  {legacyIDs[1], []byte(`{"parent":12345}`), legacyDiffIDs},
		"a document of another": {legacyIDs[1], legacyDoc(t, legacyIDs[0]), legacyDiffIDs},
	} {
		if got, ok := legacyLayer(try.id, try.doc, try.diffIDs); ok {
			t.Errorf("%s proves layer %s", name, got)
		}
	}
}

func FuzzLegacy(f *testing.F) {
	for _, id := range legacyIDs {
		f.Add(id, legacyDoc(f, id))
	}
	f.Add("", []byte(`{"parent":"a","id":1,"os":null}`))
	f.Fuzz(func(t *testing.T, id string, doc []byte) {
		got, ok := legacyLayer(id, doc, legacyDiffIDs)
		if ok && (len(id) != 64 || got == v1.Hash{}) {
			t.Errorf("%q proves %s", id, got)
		}
	})
}
