package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// archive returns the latest image of the repository as an OCI archive, as a
// rock is. The label tells archives apart; the second time it returns the same.
func (b *bench) archive(ctx context.Context, h *hub, label string) (source, error) {
	home, err := newHome(b.work, h)
	if err != nil {
		return source{}, err
	}
	defer home.remove()
	path := filepath.Join(b.work, label+".rock")
	if _, err := os.Stat(path); err != nil {
		progress("writing an OCI archive")
		copied := step{args: []string{"skopeo", "--insecure-policy", "copy", "--src-tls-verify=false",
			"docker://" + home.repository + ":latest", "oci-archive:" + path}}
		if f := home.run(ctx, []step{copied}); f.problem != "" {
			return source{}, fmt.Errorf("writing an OCI archive: %s", f.problem)
		}
	}
	config, err := archivedConfig(ctx, path)
	if err != nil {
		return source{}, fmt.Errorf("reading an OCI archive: %w", err)
	}
	return source{image: &loaded{config: config}, archive: path}, nil
}

// archivedConfig returns the digest of the config in an OCI archive, which isn't that of
// the engine's image: skopeo writes it anew.
func archivedConfig(ctx context.Context, path string) (v1.Hash, error) {
	raw, err := command(ctx, "skopeo", "inspect", "--raw", "oci-archive:"+path).Output()
	if err != nil {
		return v1.Hash{}, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return v1.Hash{}, err
	}
	return manifest.Config.Digest, nil
}

// upload brings a source to Charmhub without measuring it.
func (b *bench) upload(ctx context.Context, h *hub, src source) error {
	home, err := newHome(b.work, h)
	if err != nil {
		return err
	}
	defer home.remove()
	if r := home.run(ctx, b.action.steps(home, src)); r.problem != "" {
		progress("preparing a measurement of the action: %s", r.problem)
	}
	return ctx.Err()
}
