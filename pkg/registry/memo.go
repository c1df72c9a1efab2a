package registry

import (
	"context"
	"errors"
	"sync"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// memo remembers answers, so that each question is asked once, however many callers have it. Callers that have it at the
// same time wait for one answer. An error or a panic isn't remembered: the next caller asks again. The zero value remembers nothing
// yet, and may be used from several goroutines.
type memo[K comparable, V any] struct {
	mu      sync.Mutex
	answers map[K]*pending[V]
}

type pending[V any] struct {
	known chan struct{} // closed when value and err are set
	value V
	err   error
}

// get returns the answer to a question, which ask gives if no earlier call did.
func (m *memo[K, V]) get(ctx context.Context, question K, ask func() (V, error)) (V, error) {
	for {
		a, mine := m.claim(question)
		if mine {
			a.err = errors.New("the question wasn't answered")
			defer close(a.known)
			a.err = parallel.Guard(func() (err error) { a.value, err = ask(); return err })
			if a.err != nil {
				m.forget(question)
			}
			if crash, ok := a.err.(*parallel.PanicError); ok { //nolint:errorlint // one that ask returned isn't this call's
				panic(crash)
			}
			return a.value, a.err
		}
		select {
		case <-a.known:
			if a.err == nil {
				return a.value, nil
			}
		case <-ctx.Done():
			var none V
			return none, context.Cause(ctx)
		}
	}
}

// claim returns the answer to wait for, or a new one that the caller has to give.
func (m *memo[K, V]) claim(question K) (a *pending[V], mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a, asked := m.answers[question]; asked {
		return a, false
	}
	if m.answers == nil {
		m.answers = map[K]*pending[V]{}
	}
	a = &pending[V]{known: make(chan struct{})}
	m.answers[question] = a
	return a, true
}

func (m *memo[K, V]) forget(question K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.answers, question)
}

// peek returns an answer that is known already.
func (m *memo[K, V]) peek(question K) (value V, known bool) {
	m.mu.Lock()
	a, asked := m.answers[question]
	m.mu.Unlock()
	if !asked {
		return value, false
	}
	select {
	case <-a.known:
		return a.value, a.err == nil
	default:
		return value, false
	}
}
