package charmhub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// session keeps the Authorization header of a run. A pair of macaroons is
// exchanged for the store's own with the first call, and refreshed when the store
// asks for it; what came of it serves for the rest of the run. Its lock is held
// while it talks, so that callers at the same time share one exchange.
type session struct {
	client      *Client
	credentials *Credentials

	mu     sync.Mutex
	fresh  *pair  // the pair after a refresh; nil: credentials.pair
	header string // empty until the first call
}

// renewable reports whether a refresh can help at all.
func (s *session) renewable() bool { return s.credentials.pair != nil }

// authorization returns the header to send.
func (s *session) authorization(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.header != "" {
		return s.header, nil
	}
	if !s.renewable() {
		s.header = "Macaroon " + s.credentials.token
		return s.header, nil
	}
	err := s.exchange(ctx)
	if needsRefresh(err) {
		return s.renewLocked(ctx)
	}
	return s.header, err
}

// renew returns a header that is fresher than stale: that of another caller who
// was faster, or one from single sign-on.
func (s *session) renew(ctx context.Context, stale string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.header != stale {
		return s.header, nil
	}
	return s.renewLocked(ctx)
}

func (s *session) renewLocked(ctx context.Context) (string, error) {
	if err := s.refresh(ctx); err != nil {
		return "", err
	}
	if err := s.exchange(ctx); err != nil {
		return "", err
	}
	return s.header, nil
}

// exchange trades the pair for a macaroon of the store's own: POST
// /v1/tokens/usso/exchange. A store without that call takes the pair itself.
func (s *session) exchange(ctx context.Context) error {
	c, pair := s.client, s.pair()
	r := request{
		doing:  "exchange the store token for one of Charmhub's",
		method: http.MethodPost, base: c.store, path: "/v1/tokens/usso/exchange",
		body: jsonBody(map[string]string{"client-description": c.userAgent}),
	}
	text, err := c.once(ctx, r, pair.authorization())
	if notOffered(err) {
		s.header = pair.authorization()
		return nil
	}
	if err != nil {
		return describe(r, err)
	}
	var answer struct {
		Macaroon string `json:"macaroon"`
	}
	if err := decode(text, &answer); err != nil {
		return fmt.Errorf("cannot %s: %w", r.doing, err)
	}
	c.maskAll(answer.Macaroon)
	if !sendable(answer.Macaroon) {
		return fmt.Errorf("cannot %s: the answer holds no macaroon", r.doing)
	}
	s.header = "Macaroon " + answer.Macaroon
	return nil
}

// refresh gets a new discharge from single sign-on, the one party that is ever
// shown the old one: POST /api/v2/tokens/refresh.
func (s *session) refresh(ctx context.Context) error {
	c, pair := s.client, s.pair()
	r := request{
		doing:  "refresh the store token",
		method: http.MethodPost, base: c.sso, path: "/api/v2/tokens/refresh",
		body: jsonBody(map[string]string{"discharge_macaroon": pair.discharge}),
	}
	text, err := c.once(ctx, r, "")
	if err != nil {
		return describe(r, err)
	}
	var answer struct {
		Discharge string `json:"discharge_macaroon"`
	}
	if err := decode(text, &answer); err != nil {
		return fmt.Errorf("cannot %s: %w", r.doing, err)
	}
	c.maskAll(answer.Discharge)
	fresh, err := pair.withDischarge(answer.Discharge)
	if err != nil {
		return fmt.Errorf("cannot %s: in the answer of single sign-on, %w", r.doing, err)
	}
	c.maskAll(fresh.bound)
	c.log.Debug("store token refreshed")
	s.fresh = fresh
	return nil
}

func (s *session) pair() *pair {
	if s.fresh != nil {
		return s.fresh
	}
	return s.credentials.pair
}

func notOffered(err error) bool {
	var refused *Error
	return errors.As(err, &refused) &&
		(refused.Status == http.StatusNotFound || refused.Status == http.StatusMethodNotAllowed)
}
