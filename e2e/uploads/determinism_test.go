package uploads

import (
	"path/filepath"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

// TestSameDigest: one image has one digest, whatever the machine. Each run is
// a process with a TMPDIR and a Charmhub of its own.
func TestSameDigest(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 5<<20, 2) // more than a compressor's block
	one := harness.RemoteDigest(t, "image="+archive, "GOMAXPROCS=1")
	two := harness.RemoteDigest(t, "image="+archive, "GOMAXPROCS=2")
	if one != two {
		t.Errorf("%s with one processor, %s with two", one, two)
	}
}

// TestSameDigestFromFile: the engine and the file that it saves are one
// source.
func TestSameDigestFromFile(t *testing.T) {
	t.Parallel()
	id := harness.BuildImage(t, "scratch")
	saved := filepath.Join(t.TempDir(), "saved.tar")
	harness.Tool(t, "docker", "save", "--output", saved, id)
	engine := harness.RemoteDigest(t, "digest="+id, "GOMAXPROCS=2")
	file := harness.RemoteDigest(t, "image="+saved, "GOMAXPROCS=1")
	if engine != file {
		t.Errorf("%s from the engine, %s from the file that it saved", engine, file)
	}
}
