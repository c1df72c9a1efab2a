package parallel

import (
	"context"
	"errors"
	"strings"
	"testing"
)

var errFailed = errors.New("failed")

// explode panics. Tests look for its name in stack traces.
func explode() error { panic("boom") }

// TestGuard checks that Guard returns errors and converts panics, including those of the Go runtime.
func TestGuard(t *testing.T) {
	t.Parallel()
	if err := Guard(func() error { return errFailed }); !errors.Is(err, errFailed) {
		t.Errorf("got %v, want the function's error", err)
	}
	err := Guard(explode)
	var crash *PanicError
	if !errors.As(err, &crash) || crash.Value != "boom" || !strings.Contains(string(crash.Stack), "explode(") {
		t.Fatalf("got %v, want the panic with its stack", err)
	}
	if again := Guard(func() error { panic(crash) }); again != err { //nolint:errorlint // compares identity
		t.Errorf("a panic that was raised again became %v, want the same error", again)
	}
	var nothing map[string]int
	err = Guard(func() error { nothing["x"] = 1; return nil })
	if want := "crashed: assignment to entry in nil map; "; !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
}

// TestWaitRaisesPanics checks that Wait raises a function's panic after the other functions have ended.
func TestWaitRaisesPanics(t *testing.T) {
	t.Parallel()
	group, ctx := WithContext(t.Context())
	ended := false
	group.Go(func() error { <-ctx.Done(); ended = true; return errFailed })
	group.Go(explode)
	err := Guard(group.Wait)
	var crash *PanicError
	if !errors.As(err, &crash) || !strings.Contains(string(crash.Stack), "explode(") {
		t.Errorf("Wait gave %v, want the panic with its stack", err)
	}
	if !ended {
		t.Error("Wait didn't wait for the other function")
	}
}

// TestWaitReturnsTheFirstError checks that the first error is returned and is the context's cause.
func TestWaitReturnsTheFirstError(t *testing.T) {
	t.Parallel()
	group, ctx := WithContext(t.Context())
	group.Go(func() error { return errFailed })
	group.Go(func() error { <-ctx.Done(); return ctx.Err() })
	if err := group.Wait(); !errors.Is(err, errFailed) || !errors.Is(context.Cause(ctx), errFailed) {
		t.Errorf("got %v, caused by %v, want the first error for both", err, context.Cause(ctx))
	}
	var zero Group
	zero.SetLimit(1)
	for range 3 {
		zero.Go(func() error { return nil })
	}
	if err := zero.Wait(); err != nil {
		t.Error(err)
	}
}

// TestAllReturnsTheFirstErrorInTheList checks that the order of the list decides, not the order in time.
func TestAllReturnsTheFirstErrorInTheList(t *testing.T) {
	t.Parallel()
	failed := make(chan struct{})
	later := errors.New("failed earlier, but is later in the list")
	err := All(
		func() error { return nil },
		func() error { <-failed; return errFailed },
		func() error { close(failed); return later },
	)
	if !errors.Is(err, errFailed) {
		t.Errorf("got %v, want the error of the first step that failed", err)
	}
	if err := All(); err != nil {
		t.Error(err)
	}
	var crash *PanicError
	if err := Guard(func() error { return All(explode) }); !errors.As(err, &crash) {
		t.Errorf("got %v, want the panic", err)
	}
}
