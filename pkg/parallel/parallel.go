// Package parallel runs functions concurrently and delivers their panics to the caller.
//
// A panic can only be recovered in the goroutine in which it happens. Otherwise it ends the process with exit code 2
// and a stack trace instead of an error message. The program therefore starts its goroutines through this package.
package parallel

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// PanicError is the error that a recovered panic is converted to.
type PanicError struct {
	Value any    // the argument of panic
	Stack []byte // the stack trace of the goroutine that panicked, formatted by [debug.Stack]
}

// Error returns a message that asks the user to report the crash. The message contains Value, which may contain a
// secret.
func (p *PanicError) Error() string {
	return fmt.Sprintf("the action crashed: %v; this is a mistake in the action; run the job again with debug logging, "+
		"and please report it at https://github.com/charmhub-actions/upload-resource/issues with the log", p.Value)
}

// Guard calls f and returns its error. If f panics, it returns a *[PanicError]. A panic that [Group.Wait] raised again
// keeps its original stack trace.
func Guard(f func() error) (err error) {
	defer func() {
		switch value := recover().(type) {
		case nil:
		case *PanicError:
			err = value
		default:
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return f()
}

// Group is an [errgroup.Group] that raises panics of its functions in [Group.Wait], in the goroutine of the caller. The
// zero value is ready to use: it has no limit and cancels no context.
type Group struct {
	group      errgroup.Group
	cancel     context.CancelCauseFunc    // nil for the zero value
	firstPanic atomic.Pointer[PanicError] // nil if no function panicked
}

// WithContext returns a group and a context. The context is cancelled when the first function fails or panics, or when
// Wait returns.
func WithContext(ctx context.Context) (*Group, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{cancel: cancel}, ctx
}

// SetLimit limits the number of functions that run concurrently to n. Call it before Go.
func (g *Group) SetLimit(n int) { g.group.SetLimit(n) }

// Go calls f in a new goroutine. If the limit is reached, it blocks until another function has ended.
func (g *Group) Go(f func() error) {
	g.group.Go(func() error {
		err := Guard(f)
		if crash, ok := err.(*PanicError); ok { //nolint:errorlint // a wrapped PanicError was already handled by f
			g.firstPanic.CompareAndSwap(nil, crash)
		}
		if err != nil && g.cancel != nil {
			g.cancel(err)
		}
		return err
	})
}

// Wait waits until all functions have ended and returns the first error. If a function panicked, Wait panics with the
// first *[PanicError].
func (g *Group) Wait() error {
	err := g.group.Wait()
	if g.cancel != nil {
		g.cancel(err)
	}
	if crash := g.firstPanic.Load(); crash != nil {
		panic(crash)
	}
	return err
}

// All runs independent steps concurrently and waits for all of them. It returns the error of the failed step that is
// listed first, so list a step before those whose errors it explains. The result doesn't depend on timing. If a step
// panics, All panics with a *[PanicError].
func All(steps ...func() error) error {
	errs := make([]error, len(steps))
	var group Group
	for i, step := range steps {
		group.Go(func() error { errs[i] = step(); return nil })
	}
	_ = group.Wait() // the steps' errors are in errs
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
