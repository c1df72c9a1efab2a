package release

import (
	"context"
	"crypto/sha3"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// CharmFile is a charm file, and the revision that it is.
type CharmFile struct {
	charm.Archive
	Path     string
	Size     int64 // in bytes
	Revision int   // see [channelmap.Planned] for a file that is none yet
	Created  bool  // the revision is new
}

// isPlanned reports whether the file isn't a revision yet.
func (f CharmFile) isPlanned() bool { return channelmap.IsPlanned(f.Revision) }

// readFiles reads the charm files, unless they were read before. It returns an error if they declare resources and the
// inputs don't say which revisions these get.
func (r *Releaser) readFiles(ctx context.Context, in Inputs, name string) (read []CharmFile, err error) {
	if read = in.Read; read == nil {
		read, err = ReadFiles(ctx, r.Files, in.Files, name)
	}
	var declared []string
	for _, file := range read {
		declared = slices.AppendSeq(declared, maps.Keys(file.Resources))
	}
	return read, errors.Join(err, in.checkResources(declared))
}

// ReadFiles reads charm files, and leaves out duplicates. All must be files of the charm with this name; an empty name
// stands for that of the first file. The error names every file that is wrong; the others are returned too.
func ReadFiles(ctx context.Context, files Files, paths []string, name string) (read []CharmFile, err error) {
	for _, path := range paths {
		file, fileErr := readFile(ctx, files, path)
		if name == "" {
			name = file.Name
		}
		switch {
		case fileErr != nil:
			err = errors.Join(err, fmt.Errorf("input charms: %w", fileErr))
		case file.Name != name:
			err = errors.Join(err, fmt.Errorf("input charms: %s is of charm '%s', not '%s'; give files of one charm, by its "+
				"name", path, file.Name, name))
		case !slices.ContainsFunc(read, func(other CharmFile) bool { return other.SHA3 == file.SHA3 }):
			file.Revision = channelmap.Planned(len(read))
			read = append(read, file)
		}
	}
	return read, err
}

// readFile reads one charm file. The error names its path.
func readFile(ctx context.Context, files Files, path string) (CharmFile, error) {
	file, err := files.Open(path)
	switch {
	case errors.Is(err, workspace.ErrFolder):
		return CharmFile{}, fmt.Errorf("%s is a folder; give the file that `charmcraft pack` made", path)
	case err != nil:
		return CharmFile{}, err
	}
	// A large file takes long to read: a run that is stopped ends that.
	stop := context.AfterFunc(ctx, func() { _ = file.Close() })
	defer func() { stop(); _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return CharmFile{}, err
	}
	archive, err := charm.ReadArchive(file, info.Size())
	if err != nil {
		return CharmFile{}, fmt.Errorf("%s: %w", path, err)
	}
	return CharmFile{Archive: archive, Path: path, Size: info.Size()}, nil
}

// withRevisions returns a copy of files, with the revision of each file whose digest is listed.
func withRevisions(files []CharmFile, revisions []charmhub.CharmRevision) []CharmFile {
	files = slices.Clone(files)
	for n := range files {
		if at := slices.IndexFunc(revisions,
			func(r charmhub.CharmRevision) bool { return r.SHA3 == files[n].SHA3 }); at >= 0 {
			files[n].Revision = revisions[at].Revision
		}
	}
	return files
}

// filesAtOnce is how many charm files are uploaded at once.
const filesAtOnce = 4

// uploadFiles creates revisions for the files that have none, and returns all files with their revisions. If one fails,
// it still uploads the others.
func (r *Releaser) uploadFiles(ctx context.Context, name string, plan releasePlan) ([]CharmFile, error) {
	files := slices.Clone(plan.files)
	errs := make([]error, len(files))
	var group parallel.Group
	group.SetLimit(filesAtOnce)
	for n := range files {
		file := &files[n]
		group.Go(func() error {
			if !file.isPlanned() {
				r.Runner.Logger().Info("Charm file unchanged", zap.String("file", file.Path), zap.Int("revision", file.Revision))
				return nil
			}
			reviewed, err := r.createRevision(ctx, name, *file)
			if err != nil {
				errs[n] = fmt.Errorf("upload %s: %w", file.Path, err)
				return nil
			}
			// The store answers with an older revision if that has the content, which a list that lags behind may not have
			// shown.
			file.Revision = reviewed.Revision
			file.Created = !reviewed.Existed && !slices.ContainsFunc(plan.known.Revisions,
				func(r charmhub.CharmRevision) bool { return r.Revision >= reviewed.Revision })
			what := "Charm file unchanged"
			if file.Created {
				what = "Charm revision created"
			}
			r.Runner.Logger().Info(what, zap.String("file", file.Path), zap.Int("revision", file.Revision))
			return nil
		})
	}
	_ = group.Wait() // the errors are in their order in errs
	return files, errors.Join(errs...)
}

// createRevision makes a revision of a charm file.
func (r *Releaser) createRevision(ctx context.Context, name string, file CharmFile) (charmhub.Reviewed, error) {
	base := filepath.Base(file.Path)
	reviewed, err := upload.Uploader{Store: r.Store, Runner: r.Runner, Wait: r.Wait}.Create(ctx, upload.Content{
		Title: "Sending " + base, Name: base, Size: file.Size,
		Open: func(add func(bytes int64)) func() (io.ReadCloser, error) {
			return upload.Verified(func() (io.ReadCloser, error) { return r.Files.Open(file.Path) }, sha3.New384, file.SHA3, add)
		},
		Ask: func(ctx context.Context, uploadID string) (string, error) {
			return r.Store.CreateCharmRevision(ctx, name, uploadID)
		},
	})
	if exists, ok := errors.AsType[*charmhub.ExistsError](err); ok {
		asked, ok := errors.AsType[*upload.AskedError](err)
		reviewed.Existed = !ok || !asked.MayExist // else an earlier try may have made it
		reviewed.Revision, err = r.existing(ctx, name, file, exists)
	}
	return reviewed, err
}

// existing returns the revision of a charm file that the store has, which it rejected without the revision's number.
// The list may lag behind, and is asked for a minute.
func (r *Releaser) existing(
	ctx context.Context, name string, file CharmFile, exists *charmhub.ExistsError,
) (number int, err error) {
	r.Runner.Logger().Info("Looking for the revision that has the charm file, which Charmhub doesn't name",
		zap.String("file", file.Path))
	err = upload.Repeat(ctx, r.Wait, upload.AttemptsForAMinute, func() (pause time.Duration, again bool, err error) {
		revisions, err := r.Store.CharmRevisions(ctx, name)
		if err != nil {
			return 0, false, fmt.Errorf("%w; and then %w", exists, err)
		}
		if found := withRevisions([]CharmFile{file}, revisions)[0]; !found.isPlanned() {
			number = found.Revision
			return 0, false, nil
		}
		return 0, true, exists
	})
	return number, err
}
