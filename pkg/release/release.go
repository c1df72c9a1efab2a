// Package release uploads charm files, and puts charm and resource revisions on channels. It changes nothing that is as
// wanted already.
//
// [ReadInputs] says what to release, [Releaser.Release] does it and returns a [Result], and [Report] turns this
// into the log's last lines, the step's summary and its outputs. Nothing flows back.
package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// Store is Charmhub, as [charmhub.Client] has it.
type Store struct {
	Lists
	Changes
}

// Changes has the store's calls that change something: they upload charm files, create tracks and release.
type Changes interface {
	Release(ctx context.Context, charm string, entries []charmhub.Release) error
	CreateTracks(ctx context.Context, charm string, names []string) error
	CreateCharmRevision(ctx context.Context, charm, uploadID string) (statusURL string, err error)
	upload.Store
}

// Lists has the store's calls that read what a plan depends on.
type Lists interface {
	Tracks(ctx context.Context, charm string) (charmhub.Tracks, error)
	CharmRevisions(ctx context.Context, charm string) ([]charmhub.CharmRevision, error)
	ResourcesOf(ctx context.Context, charm string, revision int) ([]charmhub.Resource, error)
	Revisions(ctx context.Context, charm, resource string) ([]charmhub.Revision, error)
	Releases(ctx context.Context, charm string) (charmhub.Releases, error)
}

// Files opens the files that inputs name, as [workspace.Workspace] does.
type Files interface {
	Open(path string) (*os.File, error)
}

// Releaser uploads charm files and puts revisions on channels. It has no state of its own.
type Releaser struct {
	Store  Store
	Files  Files
	Runner upload.Runner
	// Wait pauses, as [transport.Sleep] does.
	Wait func(context.Context, time.Duration) error
}

// Result says what a release did, or would do in a dry run.
type Result struct {
	Charm  string
	Charms []CharmFile // that were given
	// as it was carried out; see [channelmap.Planned] for charm revisions that a dry run would create
	Plan     channelmap.Plan
	NotShown []channelmap.Row  // of the plan, that Charmhub was asked for and the channel map doesn't show
	Digests  map[string]string // of the images that were to be released, by resource, as far as they are known
	Released bool              // the store took a request to release
	DryRun   bool              // nothing was changed
	Failed   bool
}

// IsReportable reports whether there is a result to report, beside an error.
func (r Result) IsReportable() bool {
	uploaded := func(file CharmFile) bool { return !channelmap.IsPlanned(file.Revision) }
	return !r.Failed || r.Released || slices.ContainsFunc(r.Charms, uploaded)
}

// Release uploads charm files and releases revisions as the inputs say. It checks everything before it sends anything,
// and releases all entries with one request. After an error, the result says what was done before it.
func (r *Releaser) Release(ctx context.Context, in Inputs) (result Result, err error) {
	result.DryRun, result.Digests = in.DryRun, in.Digests
	var made []string // by this run, perhaps
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil && !result.Released &&
			!errors.Is(err, charmhub.ErrUnclear) {
			err = fmt.Errorf("stopped: %w; nothing was released", cause)
			if len(made) > 0 {
				err = fmt.Errorf("%w, but the store may have made %s, which running this again uses", err,
					strings.Join(made, " and "))
			}
		}
		result.Failed = err != nil
	}()
	if result.Charm, err = r.charmName(in); err != nil {
		return result, err
	}
	files, err := r.readFiles(ctx, in, result.Charm)
	if err != nil {
		return result, err
	}
	if in, err = r.addTrack(ctx, in, result.Charm); err != nil {
		return result, err
	}
	plan, err := r.plan(ctx, in, result.Charm, files)
	if err != nil {
		return result, err
	}
	if in.DryRun {
		r.warn(plan.Plan)
		for _, track := range plan.NewTracks {
			r.Runner.Logger().Info("Track " + track + " would be created")
		}
		result.Charms, result.Plan = plan.files, plan.Plan
		return result, nil
	}
	if slices.ContainsFunc(plan.files, CharmFile.isPlanned) {
		made = append(made, "revisions of the charm files")
	}
	result.Charms, err = r.uploadFiles(ctx, result.Charm, plan)
	if in.Upload != nil { // also if a charm file failed
		uploaded, uploadErr := in.Upload(ctx, err == nil)
		in, plan = in.withUploaded(uploaded), plan.withUploaded(uploaded)
		err = errors.Join(err, uploadErr)
	}
	if err != nil {
		return result, err
	}
	if len(plan.Entries) > 0 {
		if plan, err = r.planAgain(ctx, in, result.Charm, result.Charms, plan); err != nil {
			return result, err
		}
	}
	if len(plan.Entries) > 0 {
		r.warn(plan.Plan)
		if len(plan.NewTracks) > 0 {
			made = append(made, trackNames(plan.NewTracks))
			if err = r.createTracks(ctx, result.Charm, plan.NewTracks); err != nil {
				return result, err
			}
		}
		if err = r.send(ctx, result.Charm, plan.Plan); err != nil {
			return result, err
		}
		result.Released = true
		result.NotShown, err = r.confirm(ctx, result.Charm, plan.Plan)
	}
	result.Plan = plan.Plan
	return result, err
}

// charmName returns the charm's name.
func (r *Releaser) charmName(in Inputs) (string, error) {
	if in.Charm != "" {
		return in.Charm, nil
	}
	metadata, err := inputs.ReadMetadata(r.Files, in.Metadata)
	if err != nil {
		return "", err
	}
	return inputs.CharmName(metadata, in.Metadata)
}

// addTrack adds the track latest to channels without a track. It returns an error if the charm has another default
// track, because Juju would add that one.
func (r *Releaser) addTrack(ctx context.Context, in Inputs, name string) (Inputs, error) {
	input, channel := "channel", charmhub.Channel{}
	for _, c := range in.Channels {
		if c.Track == "" {
			channel = c
		}
	}
	if in.From.Risk != "" && in.From.Track == "" {
		input, channel = "from-channel", in.From
	}
	if channel == (charmhub.Channel{}) {
		return in, nil
	}
	tracks, err := r.Store.Tracks(ctx, name)
	latest := channel
	latest.Track = charmhub.Latest
	if refused, ok := errors.AsType[*charmhub.Error](err); ok && refused.Status == http.StatusForbidden {
		return in, fmt.Errorf("input %s: %s names no track, and the store token lacks the permission to ask for the "+
			"charm's default one; "+
			"give the channel with its track, for example %s", input, channel, latest)
	}
	if err != nil {
		return in, err
	}
	if tracks.Default != charmhub.Latest {
		byDefault := channel
		byDefault.Track = tracks.Default
		return in, fmt.Errorf("input %s: %s names no track, and %s is the charm's default one; give the channel that is "+
			"meant, %s or %s",
			input, channel, tracks.Default, byDefault, latest)
	}
	in.Channels = slices.Clone(in.Channels)
	for n := range in.Channels {
		in.Channels[n].Track = cmp.Or(in.Channels[n].Track, charmhub.Latest)
	}
	if in.From.Risk != "" {
		in.From.Track = cmp.Or(in.From.Track, charmhub.Latest)
	}
	return in, nil
}

// warn logs the resources that a charm revision is released without.
func (r *Releaser) warn(plan channelmap.Plan) {
	said := map[string]bool{}
	for _, row := range plan.Rows {
		if !row.Changed() {
			continue
		}
		on := fmt.Sprintf("%s on %s", channelmap.Describe(row.After.Revision), row.After.Channel)
		var lines []string
		for _, name := range row.Missing() {
			lines = append(lines, fmt.Sprintf("Optional resource '%s': %s goes without it; give a revision of it with the "+
				"input resources if it needs one", name, on))
		}
		for _, name := range row.Dropped() {
			lines = append(lines, fmt.Sprintf("Resource '%s': %s doesn't declare it, and the channel had revision %d of it",
				name, on, row.Before.Resources[name]))
		}
		for _, line := range lines {
			if !said[line] {
				said[line] = true
				r.Runner.Logger().Warn(line)
			}
		}
	}
}
