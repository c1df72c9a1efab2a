// Package checktoken has the use case that says what store tokens can do with a charm, and for how many days. Every
// request that it makes reads.
//
// [ReadInputs] says which tokens to check, [Check] asks Charmhub and returns a [Result] for each, and [Report] turns
// these into log lines, the step's summary and its outputs.
package checktoken

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// Store is Charmhub as the holder of a token sees it, as [charmhub.Client] has it.
type Store interface {
	Token(ctx context.Context) (charmhub.Token, error)
	Resources(ctx context.Context, charm string) ([]charmhub.Resource, error)
	Releases(ctx context.Context, charm string) (charmhub.Releases, error)
}

// Result is the outcome of checking a token.
type Result struct {
	GivenToken
	Known    charmhub.Token // zero unless the token is valid
	Valid    bool           // the store takes the token
	Missing  []string       // permissions that its use needs
	DaysLeft *int           // nil if unknown
	Warning  string         // that few days are left; empty if they are enough
	Problems []error        // why it can't be used, or not for long enough
}

// Check asks Charmhub about each token at the given time. The error joins the problems of all of them.
func Check(ctx context.Context, in Inputs, now time.Time, store func(GivenToken) Store) ([]Result, error) {
	results := make([]Result, len(in.Tokens))
	var group parallel.Group
	for n, token := range in.Tokens {
		group.Go(func() error {
			results[n] = check(ctx, in, token, now, store(token))
			return nil
		})
	}
	err := group.Wait()
	for _, r := range results {
		err = errors.Join(err, errors.Join(r.Problems...))
	}
	return results, err
}

// check asks the store about one token. The result holds every problem of it; now decides what has expired.
func check(ctx context.Context, in Inputs, token GivenToken, now time.Time, store Store) Result {
	r := Result{GivenToken: token}
	complain := func(err error) {
		if err != nil {
			r.Problems = append(r.Problems, fmt.Errorf("check %s: %w", token.Input, err))
		}
	}
	var err error
	if r.Known, err = store.Token(ctx); err != nil {
		complain(err)
		return r
	}
	r.Valid = true
	renew := "make a new one with `" + charmhub.LoginCommand(in.Charm, token.Releases) + "`"
	if r.Missing = r.Known.Lacks(charmhub.Permissions(token.Releases)); len(r.Missing) > 0 {
		complain(fmt.Errorf("it lacks the permissions %s; %s%s", strings.Join(r.Missing, ", "), renew, in.otherToken(token)))
	} else if err := r.tryCharm(ctx, in.Charm, store); err != nil {
		// without an error, it is listed by an ID
		if charms := r.Known.Charms; charms != nil && !slices.Contains(charms, in.Charm) {
			err = fmt.Errorf("it is for the charms %s, not for %s; %s", strings.Join(charms, ", "), in.Charm, renew)
		}
		complain(err)
	}
	if r.Known.Expires.IsZero() {
		return r
	}
	left := r.Known.Expires.Sub(now)
	days := int(math.Floor(left.Hours() / 24))
	r.DaysLeft = &days
	switch ends := "it " + r.ending() + "; " + renew; {
	case days < in.FailDays || days < 0:
		complain(errors.New(ends))
	case days < in.WarnDays:
		r.Warning = fmt.Sprintf("check %s: %s", token.Input, ends)
	}
	return r
}

// otherToken says what may be wrong where a store-token is to release because there is no other.
func (in Inputs) otherToken(token GivenToken) string {
	if len(in.Tokens) > 1 || !token.Releases {
		return ""
	}
	return ", or give another one as release-token, which is empty (as a secret that doesn't exist is), or none if the " +
		"charm isn't released with it"
}

// tryCharm reads what the token's use reads of the charm.
func (r Result) tryCharm(ctx context.Context, charm string, store Store) error {
	return parallel.All(
		func() error { _, err := store.Resources(ctx, charm); return err },
		func() (err error) {
			if r.Releases {
				_, err = store.Releases(ctx, charm)
			}
			return err
		},
	)
}

// ending says when the token expires.
func (r Result) ending() string {
	date := r.Known.Expires.Format("2006-01-02")
	switch days := *r.DaysLeft; {
	case days < 0:
		return "expired on " + date
	case days == 0:
		return "expires within a day, on " + date
	case days == 1:
		return "expires in 1 day, on " + date
	default:
		return fmt.Sprintf("expires in %d days, on %s", days, date)
	}
}
