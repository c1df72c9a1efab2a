// Package charmhub talks to Charmhub's publisher API: it lists the revisions of a charm and its resources, gets the
// credentials of the charm's image repository, uploads content, waits until the store has reviewed it, and releases it
// to channels.
//
// A [Client] needs the [Credentials] that `charmcraft login --export` made. It exchanges and refreshes them by itself,
// and reports each secret in an answer to [Config].Mask before it uses it. It sends them to the store and the storage
// host alone, follows no redirect to another host, and bounds what it reads of an answer. It never repeats a request
// that failed, except once after a refresh: retries are the transport's business. It never touches the registry.
package charmhub

import (
	"context"
	"net/http"
	"net/url"
	"sync"

	"go.uber.org/zap"
)

// Config configures a [Client].
type Config struct {
	// StoreURL, StorageURL and SSOURL are the endpoints: the API, the host that takes content, and the single sign-on that
	// refreshes credentials.
	StoreURL, StorageURL, SSOURL string

	Credentials *Credentials
	Charm       string // that the credentials are for, in advice about them; empty if unknown

	// Transport carries every request; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Connect opens a connection to a host for a later request. Only [Client.PrepareUpload] calls it.
	Connect func(context.Context, *url.URL)

	// UserAgent is sent with every request, and describes the client when a token is exchanged.
	UserAgent string

	Logger *zap.Logger

	// AsGiven says that a pair of macaroons is sent as it is, instead of being exchanged for a macaroon of the store's
	// own, which would be one more of the account's tokens.
	AsGiven bool

	// Mask is called with every secret in an answer, before anything else is done with it, and with its encoded forms: in
	// the goroutine of the call that got the answer.
	Mask func(secret string)

	// Releases says that the run releases charms, which takes more permissions: errors about the credentials name them.
	Releases bool
}

// Client makes the calls. Several goroutines may use one at once.
type Client struct {
	config  Config
	http    *http.Client
	session *session

	// tokenOwner describes the token's account, for errors about permissions. The store is asked for it at the first such
	// error.
	tokenOwner     string
	tokenOwnerOnce sync.Once
}

// New returns a client of the endpoints in c. It makes no request: addresses and credentials are checked by the first
// call.
func New(c Config) *Client {
	client := &Client{config: c, http: &http.Client{Transport: c.Transport, CheckRedirect: stayOnHost}}
	client.session = &session{client: client, pair: c.Credentials.pair}
	if c.Credentials.pair == nil {
		client.session.header = "Macaroon " + c.Credentials.token
	}
	return client
}

// maskAll reports secret and the forms in which it may turn up in a log.
func (c *Client) maskAll(secret string) {
	for _, form := range forms(secret) {
		c.config.Mask(form)
	}
}
