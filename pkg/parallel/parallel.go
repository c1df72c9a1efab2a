// Package parallel runs functions concurrently, and returns their panics to the
// caller. A panic in a goroutine can't be recovered by another one: it ends the
// process, with exit code 2 and a stack instead of an error. So the program starts
// its goroutines through this package.
package parallel

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// PanicError is a panic that was recovered.
type PanicError struct {
	Value any    // what the function panicked with
	Stack []byte // of its goroutine, as [debug.Stack] formats it
}

// Error asks the reader of the log to report the panic. Its text holds the
// value, which may hold a secret.
func (p *PanicError) Error() string {
	return fmt.Sprintf("the action crashed: %v; this is a mistake in the action; run the job again with debug logging, and "+
		"please report it at https://github.com/charmhub-actions/upload-resource/issues with the log", p.Value)
}

// Guard calls f and returns its error, or its panic as a *[PanicError]. The panic
// that [Group.Wait] passes on has its first stack.
func Guard(f func() error) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case *PanicError:
			err = v
		default:
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// Group is an [errgroup.Group] that survives panics until [Group.Wait]. The
// zero value has no limit and cancels nothing.
type Group struct {
	group    errgroup.Group
	cancel   context.CancelCauseFunc
	panicked atomic.Pointer[PanicError]
}

// WithContext returns a group and a context that ends when a function fails or
// panics, and when Wait returns.
func WithContext(ctx context.Context) (*Group, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{cancel: cancel}, ctx
}

// SetLimit lets at most n functions run concurrently. Call it before Go.
func (g *Group) SetLimit(n int) { g.group.SetLimit(n) }

// Go calls f in a goroutine of its own, as soon as the limit lets it.
func (g *Group) Go(f func() error) {
	g.group.Go(func() error {
		err := Guard(f)
		if p, ok := err.(*PanicError); ok { //nolint:errorlint // one that f wrapped was recovered and reported by f
			g.panicked.CompareAndSwap(nil, p)
		}
		if err != nil && g.cancel != nil {
			g.cancel(err)
		}
		return err
	})
}

// Wait returns the first error of the functions once all have ended. If one
// panicked, it panics with that *[PanicError].
func (g *Group) Wait() error {
	err := g.group.Wait()
	if g.cancel != nil {
		g.cancel(err)
	}
	if p := g.panicked.Load(); p != nil {
		panic(p)
	}
	return err
}

// All runs independent steps concurrently, waits for all, and returns the error of
// the first in the list that failed: the one that explains the others, and the same
// one each time.
func All(steps ...func() error) error {
	errs := make([]error, len(steps))
	var group Group
	for i, step := range steps {
		group.Go(func() error { errs[i] = step(); return nil })
	}
	_ = group.Wait() // the errors are in their order in errs
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
