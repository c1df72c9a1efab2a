// Upload-resource uploads a resource of a charm, an image or a file, to Charmhub. With
// the argument release it puts charm and resource revisions on channels, and with
// check-token it says what a store token can do. It is configured by the inputs of a
// workflow step, which are environment variables; see the action.yml files.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/checktoken"
	"github.com/charmhub-actions/upload-resource/pkg/compression"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/publish"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
	"github.com/charmhub-actions/upload-resource/pkg/release"
	"github.com/charmhub-actions/upload-resource/pkg/source"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// version is a release's, which the linker is told.
var version = "devel"

// memory is how much of it the garbage collector tries to stay within, in bytes:
// left to itself it takes twice what is in use, on a machine that others use.
const memory = 96 << 20

func main() {
	debug.SetMemoryLimit(memory)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	runner := action.New(os.Getenv, os.Stdout)
	err := parallel.Guard(func() error { return run(ctx, runner, os.Args[1:]) })
	stop()
	if err != nil {
		var crash *parallel.PanicError
		if errors.As(err, &crash) {
			runner.Logger().Debug(string(crash.Stack))
		}
		runner.Fail(err)
		os.Exit(1)
	}
}

// proofPurpose is what the key of the registry's proofs is derived for: another purpose makes another key.
const proofPurpose = "upload-resource: proofs of records, version 1"

// run chooses the use case by the program's arguments.
func run(ctx context.Context, runner *action.Runner, args []string) error {
	switch {
	case len(args) == 0:
		return upload(ctx, runner)
	case slices.Equal(args, []string{"release"}):
		return releaseCharm(ctx, runner)
	case slices.Equal(args, []string{"check-token"}):
		return checkToken(ctx, runner)
	default:
		return fmt.Errorf("arguments %q: there are release and check-token; leave them out to upload a resource", args)
	}
}

// upload wires what the inputs ask for, and reports what came of it.
func upload(ctx context.Context, runner *action.Runner) error {
	start := time.Now()
	carrier := transport.New(runner.Mask, runner.Logger()) // one for all, since it remembers what hosts don't do
	access := func(login source.Login) source.RegistryAccess {
		return source.RegistryAccess{
			Login: login, UserAgent: "upload-resource/" + version, Transport: carrier, Mask: runner.Mask,
		}
	}
	in, err := publish.ReadInputs(ctx, runner, publish.Lookup{
		Registry: func(ctx context.Context, login source.Login, tagged string) (v1.Hash, error) {
			return access(login).Resolve(ctx, tagged)
		},
		Engine: source.LocalID,
	})
	if err != nil {
		return err
	}
	if at := in.Endpoints.Registry; at != nil && at.Scheme == "https" {
		carrier.RequireHTTPS(at.Host)
	}
	hosts := new(blobupload.Hosts)
	var challenge *registry.Challenge
	if at := in.Endpoints.LikelyRegistry(); at != nil && in.File == "" {
		challenge = registry.Ask(ctx, at.Host, at.Path, carrier, carrier.Connect, runner.Logger())
	}
	client := store(runner, carrier, in.Endpoints, in.Credentials, in.Charm, false)
	publisher := publish.Publisher{
		Store:   publish.Store{RevisionStore: client, ImageStore: client},
		Sources: source.NewOpener(runner.Logger(), access(in.Login), runner.Workspace()),
		Files:   runner.Workspace(),
		Runner:  runner,
		Repository: func(ctx context.Context, login charmhub.RegistryCredentials, log *zap.Logger) (publish.Repository, error) {
			options := registry.Options{
				Image: login.ImageName, Username: login.Username, Password: login.Password,
				Challenge: challenge, Transport: carrier, Hosts: hosts, Logger: log, Decompress: new(compression.Bounds).Decompress,
			}
			if at := in.Endpoints.Registry; at != nil { // a mirror or a proxy of the registry that Charmhub names
				_, repository, _ := strings.Cut(login.ImageName, "/")
				options.Image, options.Path = at.Host+"/"+repository, at.Path
			}
			repository, err := registry.Open(ctx, options)
			if err != nil {
				return publish.Repository{}, err
			}
			view := registry.NewView(repository, in.Credentials.DeriveKey(proofPurpose), runner.Progress)
			return publish.Repository{Finder: view, Writer: view}, nil
		},
		Wait:    transport.Sleep,
		Options: in.Options,
	}
	results, err := publisher.Publish(ctx, in)
	if results == nil {
		return err
	}
	return errors.Join(err, publish.Report(runner, time.Since(start), results))
}

// releaseCharm is upload for a release.
func releaseCharm(ctx context.Context, runner *action.Runner) error {
	start := time.Now()
	in, err := release.ReadInputs(runner)
	if err != nil {
		return err
	}
	client := store(runner, transport.New(runner.Mask, runner.Logger()), in.Endpoints, in.Credentials, in.Charm, true)
	releaser := release.Releaser{
		Store:  release.Store{Lists: client, ReleaseStore: client},
		Files:  runner.Workspace(),
		Runner: runner,
		Wait:   transport.Sleep,
	}
	result, err := releaser.Release(ctx, in)
	if !result.IsReportable() {
		return err
	}
	return errors.Join(err, release.Report(runner, time.Since(start), result))
}

// checkToken says what tokens can do.
func checkToken(ctx context.Context, runner *action.Runner) error {
	in, err := checktoken.ReadInputs(runner)
	if err != nil {
		return err
	}
	carrier := transport.New(runner.Mask, runner.Logger())
	results, err := checktoken.Check(ctx, in, time.Now(), func(token checktoken.GivenToken) checktoken.Store {
		config := storeConfig(runner, carrier, in.Endpoints, token.Credentials)
		config.Charm, config.Releases, config.AsGiven = in.Charm, token.Releases, true
		return charmhub.New(config)
	})
	return errors.Join(err, checktoken.Report(runner, in, results))
}

// storeConfig returns what every client of Charmhub is made of.
func storeConfig(runner *action.Runner, carrier *transport.Transport, at inputs.Endpoints, login *charmhub.Credentials) charmhub.Config {
	return charmhub.Config{
		StoreURL: at.Store.String(), StorageURL: at.Storage.String(), SSOURL: at.SSO.String(),
		Credentials: login, Transport: carrier, Connect: carrier.Connect, UserAgent: "upload-resource/" + version,
		Logger: runner.Logger(), Mask: runner.Mask,
	}
}

// store returns the client of Charmhub for an upload to a charm, or for its release.
func store(runner *action.Runner, carrier *transport.Transport, at inputs.Endpoints, login *charmhub.Credentials, charm string, releases bool) *charmhub.Client {
	config := storeConfig(runner, carrier, at, login)
	config.Charm, config.Releases = charm, releases
	return charmhub.New(config)
}
