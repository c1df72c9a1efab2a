package charmhub

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"gopkg.in/macaroon.v2"
)

// Token is what the store says about the credentials. A nil list means no restriction.
type Token struct {
	Account     string
	Charms      []string // names, or IDs where the store gives no name
	Channels    []string
	Permissions []string
	Expires     time.Time // zero where neither the store nor the credentials say it
}

// Permissions returns those that an upload needs, or a release, which may upload charm files. Both are in the order of
// [LoginCommand].
func Permissions(releases bool) []string {
	needed := []string{manageRevisions, viewRevisions}
	if releases {
		needed = append(needed, manageReleases, viewReleases)
	}
	return needed
}

// Lacks returns which of the needed permissions the token doesn't have.
func (t Token) Lacks(needed []string) (missing []string) {
	for _, permission := range needed {
		if t.Permissions != nil && !includes(t.Permissions, permission) {
			missing = append(missing, permission)
		}
	}
	return missing
}

// includes reports whether permissions include one more: package-manage includes each package-manage-…, and
// package-view each package-view-….
func includes(permissions []string, permission string) bool {
	return slices.ContainsFunc(permissions, func(have string) bool {
		return have == permission || (have == manage || have == view) && strings.HasPrefix(permission, have+"-")
	})
}

// Token returns what the store says about the credentials, and when they expire: by their own caveats, else by the
// store's answers. It makes only requests that read.
func (c *Client) Token(ctx context.Context) (Token, error) {
	token, err := c.whoami(ctx)
	if err != nil {
		return Token{}, err
	}
	if own := c.config.Credentials.expires(); !own.IsZero() {
		token.Expires = own
	}
	if token.Expires.IsZero() {
		token.Expires, err = c.listedExpiry(ctx)
	}
	return token, err
}

// whoami returns whose the credentials are: GET /v1/tokens/whoami.
func (c *Client) whoami(ctx context.Context) (Token, error) {
	var answer struct {
		Account  struct{ Username string }
		Packages []struct {
			Name string
			ID   string
		}
		Channels    []string
		Permissions []string
		Expires     text // of the snap side's dialect
	}
	err := c.ask(ctx, request{
		doing: "ask Charmhub whose store token this is", path: "/v1/tokens/whoami",
	}, &answer)
	if err != nil {
		return Token{}, err
	}
	token := Token{
		Account: answer.Account.Username, Channels: answer.Channels, Permissions: answer.Permissions,
		Expires: parseTime(string(answer.Expires)),
	}
	for _, p := range answer.Packages {
		// A package that was given by ID has no name here.
		if p.Name == "" {
			p.Name = p.ID
		}
		token.Charms = append(token.Charms, p.Name)
	}
	return token, nil
}

// listedExpiry returns when the credentials expire by the store's list of the account's tokens: GET /v1/tokens. An
// entry is theirs if their macaroon has its session's ID. It returns the zero time where no entry is, or the store has
// no list.
func (c *Client) listedExpiry(ctx context.Context) (time.Time, error) {
	var answer struct {
		Macaroons []struct {
			Session text `json:"session-id"`
			Until   text `json:"valid-until"`
		}
	}
	texts := c.config.Credentials.caveats()
	if len(texts) == 0 {
		return time.Time{}, nil
	}
	err := c.ask(ctx, request{doing: "list the tokens of the account", path: "/v1/tokens"}, &answer)
	if _, refused := errors.AsType[*Error](err); refused {
		c.config.Logger.Debug("the store gave no list of tokens", zap.Error(err))
		return time.Time{}, nil
	}
	for _, listed := range answer.Macaroons {
		const enough = 8 // characters: a short ID could be a part of anything
		if len(listed.Session) >= enough && slices.ContainsFunc(texts,
			func(text string) bool { return strings.Contains(text, string(listed.Session)) }) {
			return parseTime(string(listed.Until)), nil
		}
	}
	return time.Time{}, err
}

// caveats returns the ID of the credentials' macaroon and what its first-party caveats say; nil for credentials that
// can't be read. They aren't verified.
func (c *Credentials) caveats() []string {
	token := c.token
	if c.pair != nil { // its discharge is refreshed
		token = c.pair.root
	}
	m, err := readMacaroon(token)
	if err != nil {
		m = new(macaroon.Macaroon)
		if m.UnmarshalJSON([]byte(token)) != nil {
			return nil
		}
	}
	texts := []string{string(m.Id())}
	for _, caveat := range m.Caveats() {
		if len(caveat.VerificationId) == 0 {
			texts = append(texts, string(caveat.Id))
		}
	}
	return texts
}

// expiryForm finds the time in a caveat that limits a macaroon's life, in the forms of macaroon bakeries, of the snap
// store and of JSON.
var expiryForm = regexp.MustCompile(`(?i)(?:time-before|expires?|expiry|valid[-_]until)\W{1,5}(\d{4}-\d\d-\d\d[T ` +
	`][0-9:.]{5,20}(?:Z|[+-]\d\d:?\d\d)?)`)

// expires returns when the credentials expire by their own caveats, of which the earliest counts; zero if they don't
// say.
func (c *Credentials) expires() (end time.Time) {
	for _, text := range c.caveats() {
		for _, found := range expiryForm.FindAllStringSubmatch(text, -1) {
			if at := parseTime(found[1]); !at.IsZero() && (end.IsZero() || at.Before(end)) {
				end = at
			}
		}
	}
	return end
}

// parseTime reads a time in one of the forms that the store writes, of UTC if it names no zone; zero for any other
// text.
func parseTime(text string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05",
		"2006-01-02T15:04"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}
