package registry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

func TestMemoAsksOnce(t *testing.T) {
	t.Parallel()
	var m memo[string, int]
	var asked atomic.Int64
	var g sync.WaitGroup
	for range 20 {
		g.Go(func() {
			if got, err := m.get(t.Context(), "a", func() (int, error) { asked.Add(1); return 1, nil }); got != 1 || err != nil {
				t.Errorf("%d, %v", got, err)
			}
		})
	}
	g.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	if got, known := m.peek("a"); got != 1 || !known {
		t.Errorf("peek: %d, %t", got, known)
	}
	if _, known := m.peek("b"); known {
		t.Error("peek knows what nobody asked")
	}
}

// An error isn't remembered: who waits for the answer meanwhile asks again.
func TestMemoForgetsErrors(t *testing.T) {
	t.Parallel()
	var m memo[string, int]
	asking, fail := make(chan struct{}), make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		_, err := m.get(t.Context(), "a", func() (int, error) { close(asking); <-fail; return 0, errors.New("down") })
		if err == nil {
			t.Error("no error")
		}
	})
	<-asking
	g.Go(func() {
		if got, err := m.get(t.Context(), "a", func() (int, error) { return 2, nil }); got != 2 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	})
	if _, known := m.peek("a"); known {
		t.Error("peek knows an answer before it is there")
	}
	close(fail)
	g.Wait()
}

// Who waits for an answer can be stopped, and a panic is the asker's.
func TestMemoStopsAndPanics(t *testing.T) {
	t.Parallel()
	var m memo[string, int]
	asking, end := make(chan struct{}), make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		err := parallel.Guard(func() error {
			_, err := m.get(t.Context(), "a", func() (int, error) { close(asking); <-end; panic("a bug") })
			return err
		})
		var crash *parallel.PanicError
		if !errors.As(err, &crash) || crash.Value != "a bug" {
			t.Errorf("got %v", err)
		}
	})
	<-asking
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopped"))
	if _, err := m.get(ctx, "a", func() (int, error) { return 1, nil }); err == nil || err.Error() != "stopped" {
		t.Errorf("stopped: %v", err)
	}
	close(end)
	g.Wait()
	if got, err := m.get(t.Context(), "a", func() (int, error) { return 3, nil }); got != 3 || err != nil {
		t.Errorf("after the panic: %d, %v", got, err)
	}
}
