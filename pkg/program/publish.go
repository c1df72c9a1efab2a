package program

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/publish"
	"github.com/charmhub-actions/upload-resource/pkg/publishcharm"
	"github.com/charmhub-actions/upload-resource/pkg/release"
	"github.com/charmhub-actions/upload-resource/pkg/source"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// publishCharm runs the action publish: a packed charm, its resources and its release.
func (p Program) publishCharm(ctx context.Context) error {
	start := time.Now()
	open := source.NewOpener(p.runner.Logger(), p.sourceAccess(source.Login{}), p.runner.Workspace()).Open
	in, err := publishcharm.ReadInputs(ctx, p.runner, p.lookup(), open)
	defer func() { in.Opened.Close() }()
	if err != nil {
		return err
	}
	config := p.storeConfig(in.Endpoints, in.Credentials, in.Charm)
	config.Releases = in.Credentials == in.ReleaseCredentials
	client := charmhub.New(config)
	store := twoTokens{client, client}
	if !config.Releases {
		config.Credentials, config.Releases = in.ReleaseCredentials, true
		store.releases = charmhub.New(config)
	}
	images := slices.ContainsFunc(in.Items, func(item publish.Item) bool { return item.File == "" })
	uploader := p.publisher(ctx, client, in.Endpoints, in.Credentials, in.Login, images)
	uploader.Compression, uploader.DryRun = in.Compression, in.DryRun
	releaser := release.Releaser{
		Store: release.Store{Lists: store, Changes: store}, Files: p.runner.Workspace(), Runner: p.runner,
		Wait: transport.Sleep,
	}
	result, err := publishcharm.Publish(ctx, in, uploader, releaser)
	if !result.IsReportable() {
		return err
	}
	return errors.Join(err, publishcharm.Report(p.runner, time.Since(start), in.Endpoints.Website(), result))
}

// twoTokens is Charmhub for a run that releases with another token than it uploads with.
type twoTokens struct {
	*charmhub.Client
	releases *charmhub.Client
}

// Releases reads the channel map.
func (s twoTokens) Releases(ctx context.Context, charm string) (charmhub.Releases, error) {
	return s.releases.Releases(ctx, charm)
}

// Release puts revisions on channels.
func (s twoTokens) Release(ctx context.Context, charm string, entries []charmhub.Release) error {
	return s.releases.Release(ctx, charm, entries)
}
