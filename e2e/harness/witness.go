package harness

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Witness is a server with a given answer that records every request.
type Witness struct {
	Answer http.Handler

	mu    sync.Mutex
	heard []string
}

// ServeHTTP notes the request with its header and up to 1 MiB of its body, then lets Answer reply. Without an Answer,
// the reply is empty.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	w.mu.Lock()
	w.heard = append(w.heard, fmt.Sprint(r.Method, " ", r.URL, " ", r.Header, " ", string(body)))
	w.mu.Unlock()
	if w.Answer != nil {
		w.Answer.ServeHTTP(rw, r)
	}
}

// All returns the requests so far.
func (w *Witness) All() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.heard)
}

// HeardNone fails the test if the witness was sent one of the secrets.
func (w *Witness) HeardNone(t *testing.T, who string, secrets []string) {
	t.Helper()
	for _, request := range w.All() {
		for _, secret := range secrets {
			if strings.Contains(request, secret) {
				t.Errorf("%s was sent the secret %s…", who, secret[:6])
			}
		}
	}
}

// Guarded lets those through who send the authorization that is wanted.
func Guarded(want, challenge string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
