package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3" // refuses names that are there twice, but not those that a merge key overrides

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

const (
	maxMetadata = 1 << 20 // bytes of a charm's metadata; real ones have some thousand
	charmAtOnce = 4       // resources of a charm that are uploaded at once
)

// metadata is what is read of charmcraft.yaml or metadata.yaml.
type metadata struct {
	Name      string
	Resources map[string]struct {
		Type   string
		Source string `yaml:"upstream-source"`
	}
}

func readMetadata(files workspace.Workspace, path string) (metadata, error) {
	var m metadata
	file, err := files.Open(path)
	if err != nil {
		return m, fmt.Errorf("input metadata: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxMetadata+1))
	if err == nil {
		m, err = parseMetadata(text)
	}
	if err != nil {
		return m, fmt.Errorf("cannot read %s, of input metadata: %w", path, err)
	}
	return m, nil
}

// parseMetadata refuses what would make it guess: names that can't be, and
// names that are there twice.
func parseMetadata(text []byte) (m metadata, err error) {
	if len(text) > maxMetadata {
		return m, fmt.Errorf("it has more than %d bytes, which no charm's metadata has", maxMetadata)
	}
	if err := yaml.Unmarshal(text, &m); err != nil {
		return m, err
	}
	var complaints []error
	if m.Name != "" {
		complaints = append(complaints, action.CheckCharm(m.Name))
	}
	for _, name := range m.images() {
		complaints = append(complaints, action.CheckResource(name))
	}
	return m, errors.Join(complaints...)
}

// images returns the names of the resources that can be uploaded from where
// the metadata says, sorted.
func (m metadata) images() []string {
	var names []string
	for name, resource := range m.Resources {
		if resource.Type == charmhub.TypeImage && resource.Source != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// uploadCharm uploads every image that the charm's metadata names a source
// for. One that fails doesn't keep the others from being uploaded and told.
func (j *job) uploadCharm(ctx context.Context) error {
	m, err := readMetadata(j.files, j.Metadata)
	if err != nil {
		return err
	}
	for _, resource := range m.Resources {
		j.hideCredentials(resource.Source)
	}
	names := m.images()
	if len(names) == 0 {
		return fmt.Errorf("%s has no resource of type %s with an upstream-source: add one, or use the inputs resource and image",
			j.Metadata, charmhub.TypeImage)
	}
	if j.Charm == "" {
		j.Charm = m.Name
	}
	if j.Charm == "" {
		return fmt.Errorf("%s has no name: give the charm's with the input charm", j.Metadata)
	}
	j.log.Info(fmt.Sprintf("Uploading %d resources of charm '%s': %s", len(names), j.Charm, list(names)))
	return j.uploadAll(ctx, m, names)
}

func (j *job) uploadAll(ctx context.Context, m metadata, names []string) error {
	start := time.Now()
	reports := make([]*report, len(names))
	var group parallel.Group
	group.SetLimit(charmAtOnce)
	for n, name := range names {
		group.Go(func() error {
			one := *j
			one.Resource, one.source, one.log = name, m.Resources[name].Source, j.log.Named(name)
			reports[n] = one.upload(ctx)
			return nil
		})
	}
	_ = group.Wait() // failures are in the reports, so that none hides another
	return errors.Join(failures(reports), j.tell(time.Since(start), reports...))
}

func failures(reports []*report) error {
	var failed []error
	for _, r := range reports {
		if r.err != nil {
			failed = append(failed, fmt.Errorf("resource '%s': %w", r.Resource, r.err))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d resources failed:\n%w", len(failed), len(reports), errors.Join(failed...))
}

// pin resolves the tag of a source to the digest that it names now. From then
// on the tag may move without this run noticing.
func (j *job) pin(ctx context.Context) error {
	ref, err := image.Parse("docker://" + strings.TrimPrefix(j.source, "docker://"))
	var tagged *image.TagError
	if errors.As(err, &tagged) {
		ref, err = j.resolve(ctx, tagged.Name)
	}
	if err != nil {
		return fmt.Errorf("upstream-source: %w", err)
	}
	j.images = []part{{Reference: ref}}
	return nil
}

func (j *job) resolve(ctx context.Context, tagged string) (image.Reference, error) {
	digest, err := j.access.Resolve(ctx, tagged)
	if err != nil {
		return image.Reference{}, err
	}
	j.log.Info(fmt.Sprintf("%s is %s now", tagged, digest))
	return image.Parse(tagged[:strings.LastIndex(tagged, ":")] + "@" + digest.String())
}
