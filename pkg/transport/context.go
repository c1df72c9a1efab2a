package transport

import (
	"context"
	"time"
)

type (
	onceKey         struct{}
	answerWithinKey struct{}
)

// Once returns a context whose requests aren't repeated after a failure: for a request that the server may be unable to
// answer, and for a sender that has to find out how far a request got before it sends another.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// AnswerWithin returns a context whose requests are given up when no answer has begun within limit after the last byte of
// their body was sent, instead of within a minute: for requests that take the server long.
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
