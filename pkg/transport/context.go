package transport

import (
	"context"
	"time"
)

// The keys under which a context holds what [Once] and [AnswerWithin] say.
type (
	onceKey         struct{}
	answerWithinKey struct{}
)

// Once returns a context whose requests aren't repeated after a failure. It is for requests that a server may not
// support, and for a sender that must find out how much arrived before it sends more.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// IsOnce reports whether ctx is one of [Once].
func IsOnce(ctx context.Context) bool { return ctx.Value(onceKey{}) != nil }

// AnswerWithin returns a context whose requests fail if no answer begins within limit after the last byte of their body
// was sent. Without it, the limit is a minute.
func AnswerWithin(ctx context.Context, limit time.Duration) context.Context {
	return context.WithValue(ctx, answerWithinKey{}, limit)
}

// Sleep waits for d, or until the context ends; then it returns the context's cause.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
