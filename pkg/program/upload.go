package program

import (
	"context"
	"errors"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/compression"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/publish"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
	"github.com/charmhub-actions/upload-resource/pkg/source"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// uploadResource runs the action of the repository's root: it uploads one resource, or all images of a charm.
func (p Program) uploadResource(ctx context.Context) error {
	start := time.Now()
	in, err := publish.ReadInputs(ctx, p.runner, p.lookup())
	if err != nil {
		return err
	}
	client := charmhub.New(p.storeConfig(in.Endpoints, in.Credentials, in.Charm))
	publisher := p.publisher(ctx, client, in.Endpoints, in.Credentials, in.Login, in.File == "")
	publisher.Options = in.Options
	results, err := publisher.Publish(ctx, in)
	if results == nil {
		return err
	}
	return errors.Join(err, publish.Report(p.runner, time.Since(start), in.Endpoints.Website(), results))
}

// publisher returns a publisher that uploads resources. Images is whether one of them is an image; then it already
// connects to the registry.
func (p Program) publisher(
	ctx context.Context, client *charmhub.Client, at inputs.Endpoints, login *charmhub.Credentials, from source.Login,
	images bool,
) publish.Publisher {
	if at := at.Registry; at != nil && at.Scheme == "https" {
		p.transport.RequireHTTPS(at.Host)
	}
	var challenge *registry.Challenge
	if at := at.LikelyRegistry(); at != nil && images {
		challenge = registry.Ask(ctx, at.Host, at.Path, p.transport, p.transport.Connect, p.runner.Logger())
	}
	return publish.Publisher{
		Store:      publish.Store{RevisionStore: client, ImageStore: client},
		Sources:    source.NewOpener(p.runner.Logger(), p.sourceAccess(from), p.runner.Workspace()),
		Files:      p.runner.Workspace(),
		Runner:     p.runner,
		Repository: p.repositories(at, login, challenge),
		Wait:       transport.Sleep,
	}
}

// sourceAccess returns what gives access to the registries that images come from.
func (p Program) sourceAccess(login source.Login) source.RegistryAccess {
	return source.RegistryAccess{
		Login: login, UserAgent: p.userAgent, Transport: p.transport, Connect: p.transport.Connect, Mask: p.runner.Mask,
	}
}

// lookup returns how inputs are looked up in a registry or in the container engine, to explain what is wrong with them.
func (p Program) lookup() publish.Lookup {
	return publish.Lookup{
		Registry: func(ctx context.Context, login source.Login, tagged string) (v1.Hash, error) {
			return p.sourceAccess(login).Resolve(ctx, tagged)
		},
		Engine: source.LocalID,
	}
}

// proofPurpose is the label with which the key of the registry's proofs is derived from the store token. Another
// label gives another key.
const proofPurpose = "upload-resource: proofs of records, version 1"

// repositories returns what opens the repository of an image resource. The registry has been asked for the challenge
// before, if it isn't nil.
func (p Program) repositories(
	at inputs.Endpoints, login *charmhub.Credentials, challenge *registry.Challenge,
) func(context.Context, charmhub.RegistryCredentials, *zap.Logger) (publish.Repository, error) {
	hosts := new(blobupload.Hosts)
	return func(ctx context.Context, to charmhub.RegistryCredentials, log *zap.Logger) (publish.Repository, error) {
		options := registry.Options{
			Image: to.ImageName, Username: to.Username, Password: to.Password,
			Challenge: challenge, Transport: p.transport, Hosts: hosts, Logger: log,
			Decompress: new(compression.Bounds).Decompress,
		}
		if at := at.Registry; at != nil { // a mirror or a proxy of the registry that Charmhub names
			_, repository, _ := strings.Cut(to.ImageName, "/")
			options.Image, options.Path = at.Host+"/"+repository, at.Path
		}
		repository, err := registry.Open(ctx, options)
		if err != nil {
			return publish.Repository{}, err
		}
		view := registry.NewView(repository, login.DeriveKey(proofPurpose), p.runner.Progress)
		return publish.Repository{Finder: view, Writer: view}, nil
	}
}
