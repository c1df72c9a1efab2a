package charmhub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// session has the Authorization header of a run. A pair of macaroons is exchanged for the store's own with the first
// call, and refreshed when the store asks for it; the result serves for the rest of the run. Its lock is held during
// these requests, so that concurrent callers share one exchange.
type session struct {
	client *Client

	mu     sync.Mutex
	pair   *pair  // nil for a token that is sent as it is
	header string // empty until the first call, if there is a pair
}

// authorization returns the header to send.
func (s *session) authorization(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.header != "" {
		return s.header, nil
	}
	err := s.exchange(ctx)
	if needsRefresh(err) {
		err = s.refresh(ctx)
	}
	return s.header, err
}

// renew returns a header that is fresher than stale: that of another caller who was faster, or one from single sign-on.
func (s *session) renew(ctx context.Context, stale string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.header != stale {
		return s.header, nil
	}
	err := s.refresh(ctx)
	return s.header, err
}

// exchange trades the pair for a macaroon of the store's own: POST /v1/tokens/usso/exchange. A store without that call
// takes the pair itself.
func (s *session) exchange(ctx context.Context) error {
	if s.client.config.AsGiven {
		s.header = s.pair.authorization()
		return nil
	}
	r := request{
		doing:  "exchange the store token for one of Charmhub's",
		method: http.MethodPost, path: "/v1/tokens/usso/exchange",
		body: jsonBody(map[string]string{"client-description": s.client.config.UserAgent}),
	}
	var answer struct{ Macaroon string }
	err := s.ask(ctx, r, s.pair.authorization(), &answer)
	if refused := new(Error); errors.As(err, &refused) &&
		(refused.Status == http.StatusNotFound || refused.Status == http.StatusMethodNotAllowed) {
		s.header = s.pair.authorization()
		return nil
	}
	if err != nil {
		return err
	}
	s.client.maskAll(answer.Macaroon)
	if !sendable(answer.Macaroon) {
		return fmt.Errorf("cannot %s: the answer holds no macaroon", r.doing)
	}
	s.header = "Macaroon " + answer.Macaroon
	return nil
}

// refresh gets a new discharge from single sign-on and exchanges the pair again: POST /api/v2/tokens/refresh. Nobody
// but single sign-on is sent the old discharge alone.
func (s *session) refresh(ctx context.Context) error {
	r := request{
		doing:  "refresh the store token",
		method: http.MethodPost, base: s.client.config.SSOURL, path: "/api/v2/tokens/refresh",
		body: jsonBody(map[string]string{"discharge_macaroon": s.pair.discharge}),
	}
	var answer struct {
		Discharge string `json:"discharge_macaroon"`
	}
	if err := s.ask(ctx, r, "", &answer); err != nil {
		return err
	}
	s.client.maskAll(answer.Discharge)
	fresh, err := newPair(s.pair.root, answer.Discharge)
	if err != nil {
		return fmt.Errorf("cannot %s: in the answer of single sign-on, %w", r.doing, err)
	}
	s.client.maskAll(fresh.bound)
	s.client.config.Logger.Debug("store token refreshed")
	s.pair = fresh
	return s.exchange(ctx)
}

// ask sends r with an authorization, if there is one, and reads the JSON answer.
func (s *session) ask(ctx context.Context, r request, authorization string, answer any) error {
	text, err := s.client.sendOnce(ctx, r, authorization)
	if err != nil {
		return s.client.describe(r, err)
	}
	return r.decode(text, answer)
}
