// Package program has a function for each action. It creates the parts that a use case needs, passes them the inputs,
// and reports the result.
package program

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/checktoken"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/release"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Program is one run of the program.
type Program struct {
	runner    *action.Runner
	transport *transport.Transport // one for all, since it remembers what hosts don't do
	userAgent string
}

// Run runs the action with this name; an empty name is the action at the repository's root. The version becomes part of
// the User-Agent.
func Run(ctx context.Context, runner *action.Runner, name, version string) error {
	p := Program{runner, transport.New(runner.Mask, runner.Logger()), "upload-resource/" + version}
	switch name {
	case "":
		return p.uploadResource(ctx)
	case "release":
		return p.release(ctx)
	case "publish":
		return p.publishCharm(ctx)
	case "check-token":
		return p.checkToken(ctx)
	}
	return fmt.Errorf("run the action %q: the program has none of that name; update it", name)
}

// release runs the action release: charm and resource revisions to channels.
func (p Program) release(ctx context.Context) error {
	start := time.Now()
	in, err := release.ReadInputs(p.runner)
	if err != nil {
		return err
	}
	config := p.storeConfig(in.Endpoints, in.Credentials, in.Charm)
	config.Releases = true
	client := charmhub.New(config)
	releaser := release.Releaser{
		Store:  release.Store{Lists: client, Changes: client},
		Files:  p.runner.Workspace(),
		Runner: p.runner,
		Wait:   transport.Sleep,
	}
	result, err := releaser.Release(ctx, in)
	if !result.IsReportable() {
		return err
	}
	return errors.Join(err, release.Report(p.runner, time.Since(start), in.Endpoints.Website(), result))
}

// checkToken runs the action check-token.
func (p Program) checkToken(ctx context.Context) error {
	in, err := checktoken.ReadInputs(p.runner)
	if err != nil {
		return err
	}
	results, err := checktoken.Check(ctx, in, time.Now(), func(token checktoken.GivenToken) checktoken.Store {
		config := p.storeConfig(in.Endpoints, token.Credentials, in.Charm)
		config.Releases, config.AsGiven = token.Releases, true
		return charmhub.New(config)
	})
	return errors.Join(err, checktoken.Report(p.runner, in, results))
}

// storeConfig returns the configuration of a Charmhub client. The charm may be empty.
func (p Program) storeConfig(at inputs.Endpoints, login *charmhub.Credentials, charm string) charmhub.Config {
	return charmhub.Config{
		StoreURL: at.Store.String(), StorageURL: at.Storage.String(), SSOURL: at.SSO.String(),
		Credentials: login, Charm: charm, Transport: p.transport, Connect: p.transport.Connect, UserAgent: p.userAgent,
		Logger: p.runner.Logger(), Mask: p.runner.Mask,
	}
}
