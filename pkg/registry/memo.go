package registry

import (
	"context"
	"errors"
	"sync"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// memo caches answers by question. Each question is asked once, even if several goroutines need the answer at the same
// time. Errors and panics aren't cached: the next caller asks again. The zero value is empty and ready to use.
type memo[K comparable, V any] struct {
	mu      sync.Mutex
	answers map[K]*pending[V]
}

// pending is an answer, or the wait for it.
type pending[V any] struct {
	known chan struct{} // closed when value and err are set
	value V
	err   error
}

// get returns the answer to a question. It calls ask if no earlier call has answered it. If ctx ends during the wait
// for another caller's answer, get returns the cause.
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

// claim returns the answer to wait for. If mine is true, the caller has to provide that answer.
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

// forget removes a question, so that the next caller asks it.
func (m *memo[K, V]) forget(question K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.answers, question)
}

// peek returns a cached answer without waiting. Known is false if there is none.
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
