// Package charmhub talks to Charmhub's publisher API: it lists a charm's
// resources and their revisions, hands out the credentials of the charm's image
// repository, uploads content and waits until the store has reviewed it.
//
// A [Client] needs the [Credentials] that `charmcraft login --export` made. It
// exchanges and refreshes them by itself, and reports each secret it is given to
// [Config].Mask before it uses it. It sends them to the store and the storage
// host alone, follows no redirect to another host, and reads no answer without a
// bound. It never repeats a request that failed, except once after a refresh:
// retries are the transport's business. It never touches the registry.
package charmhub

import (
	"cmp"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Charmhub in production, used where a [Config] names nothing else.
const (
	productionStore   = "https://api.charmhub.io"
	productionStorage = "https://storage.snapcraftcontent.com"
	productionSSO     = "https://login.ubuntu.com"
)

// Config is what a [Client] is made of. Credentials and Logger are required.
type Config struct {
	// StoreURL, StorageURL and SSOURL are the endpoints: the API, the host that
	// takes content, and the single sign-on that refreshes credentials. Empty
	// means production.
	StoreURL, StorageURL, SSOURL string

	Credentials *Credentials

	// Transport carries every request; nil means http.DefaultTransport.
	Transport http.RoundTripper

	// UserAgent is sent with every request, and describes the client when a
	// token is exchanged. Empty means "upload-resource".
	UserAgent string

	Logger *zap.Logger

	// Mask is told of every secret that an answer holds, before anything else
	// is done with it, and of its encoded forms. It is called from the
	// goroutine of the call that met the secret. Nil means nobody is told.
	Mask func(secret string)

	// Patience is how long Await waits for a review; zero means 30 minutes.
	Patience time.Duration
}

// Client makes the calls. Several goroutines may use one at once.
type Client struct {
	http    *http.Client
	store   string
	storage string
	sso     string

	userAgent string
	patience  time.Duration
	log       *zap.Logger
	mask      func(string)
	session   *session

	// whose says whose token this is, asked once a client, for those errors
	// that need it.
	whose     string
	whoseOnce sync.Once
}

// New returns a client of the endpoints in c. It makes no request: addresses and
// credentials prove themselves with the first call.
func New(c Config) *Client {
	client := &Client{
		http:      &http.Client{Transport: c.Transport, CheckRedirect: stayOnHost},
		store:     cmp.Or(c.StoreURL, productionStore),
		storage:   cmp.Or(c.StorageURL, productionStorage),
		sso:       cmp.Or(c.SSOURL, productionSSO),
		userAgent: cmp.Or(c.UserAgent, "upload-resource"),
		patience:  cmp.Or(c.Patience, 30*time.Minute),
		log:       c.Logger,
		mask:      c.Mask,
	}
	if client.mask == nil {
		client.mask = func(string) {}
	}
	client.session = &session{client: client, credentials: c.Credentials}
	return client
}

// maskAll reports secret and the forms in which it may turn up in a log.
func (c *Client) maskAll(secret string) {
	for _, form := range forms(secret) {
		c.mask(form)
	}
}
