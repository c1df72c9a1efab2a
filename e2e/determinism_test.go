package e2e

import (
	"path/filepath"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestSameDigest: one image has one digest, whatever the machine. Each run is
// a process with a TMPDIR and a Charmhub of its own.
func TestSameDigest(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 5<<20, 2) // more than a compressor's block
	one := remoteDigest(t, "image="+archive, "GOMAXPROCS=1")
	two := remoteDigest(t, "image="+archive, "GOMAXPROCS=2")
	if one != two {
		t.Errorf("%s with one processor, %s with two", one, two)
	}
}

// TestSameDigestFromFile: the engine and the file that it saves are one
// source.
func TestSameDigestFromFile(t *testing.T) {
	t.Parallel()
	id := buildImage(t, "scratch")
	saved := filepath.Join(t.TempDir(), "saved.tar")
	run(t, "docker", "save", "--output", saved, id)
	engine := remoteDigest(t, "digest="+id, "GOMAXPROCS=2")
	file := remoteDigest(t, "image="+saved, "GOMAXPROCS=1")
	if engine != file {
		t.Errorf("%s from the engine, %s from the file that it saved", engine, file)
	}
}

func remoteDigest(t *testing.T, inputs ...string) string {
	t.Helper()
	sandbox := startSandbox(t, server.Options{})
	r := action(t, sandbox, append(inputs, "resource="+imageResource)...)
	r.succeeded(t)
	r.has(t, map[string]string{"uploaded": "true"})
	return r.outputs["remote-digest"]
}
