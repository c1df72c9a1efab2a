package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// archives makes images as files in the workspace, of the form that docker save
// writes: uncompressed layers, a config, and manifest.json.
type archives struct {
	program   string // the content of the lower layer
	workspace string
	made      int
}

func (a *archives) String() string {
	return "an archive like those of docker save, since no container engine answers"
}

func (a *archives) close() error { return nil } // they go with the workspace

func (a *archives) make(_ context.Context, greeting string) (string, error) {
	program, err := os.ReadFile(a.program)
	if err != nil {
		return "", err
	}
	archive, err := saved(
		entry{name: "app/upload-resource", content: program, executable: true},
		entry{name: "app/greeting", content: []byte(greeting)},
	)
	if err != nil {
		return "", fmt.Errorf("writing the image: %w", err)
	}
	a.made++
	name := fmt.Sprintf("image-%d.tar", a.made)
	return "image=" + name, os.WriteFile(filepath.Join(a.workspace, name), archive, 0o600)
}

// saved is an image of one layer an entry, as docker save writes it.
func saved(contents ...entry) ([]byte, error) {
	var files []entry
	var layers []string
	config := v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}}
	for _, content := range contents {
		layer, err := tarOf(content)
		if err != nil {
			return nil, err
		}
		diffID, _, err := v1.SHA256(bytes.NewReader(layer))
		if err != nil {
			return nil, err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		files = append(files, entry{name: diffID.Hex + "/layer.tar", content: layer})
		layers = append(layers, diffID.Hex+"/layer.tar")
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	id, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	index, err := json.Marshal([]map[string]any{{"Config": id.Hex + ".json", "RepoTags": nil, "Layers": layers}})
	if err != nil {
		return nil, err
	}
	return tarOf(append(files, entry{name: id.Hex + ".json", content: raw}, entry{name: "manifest.json", content: index})...)
}

// entry is a file in a tar archive.
type entry struct {
	name       string
	content    []byte
	executable bool
}

// tarOf is the same to the byte for the same entries.
func tarOf(entries ...entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		header := tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if e.executable {
			header.Mode = 0o755
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
