package parallel

import (
	"context"
	"errors"
	"strings"
	"testing"
)

var errFailed = errors.New("failed")

func explode() error { panic("boom") }

func TestGuard(t *testing.T) {
	t.Parallel()
	if err := Guard(func() error { return errFailed }); !errors.Is(err, errFailed) {
		t.Errorf("got %v, want the function's error", err)
	}
	err := Guard(explode)
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "boom" || !strings.Contains(string(p.Stack), "explode(") {
		t.Fatalf("got %v, want the panic with its stack", err)
	}
	if again := Guard(func() error { panic(p) }); again != err { //nolint:errorlint // the same one is meant
		t.Errorf("a panic that is passed on became %v", again)
	}
	var nothing map[string]int
	err = Guard(func() error { nothing["x"] = 1; return nil })
	if want := "crashed: assignment to entry in nil map; "; !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
}

func TestGroupPassesOnPanics(t *testing.T) {
	t.Parallel()
	g, ctx := WithContext(t.Context())
	ended := false
	g.Go(func() error { <-ctx.Done(); ended = true; return errFailed })
	g.Go(explode)
	err := Guard(g.Wait)
	var p *PanicError
	if !errors.As(err, &p) || !strings.Contains(string(p.Stack), "explode(") {
		t.Errorf("Wait gave %v, want the panic with its stack", err)
	}
	if !ended {
		t.Error("Wait didn't wait for the other function")
	}
}

func TestGroupReturnsTheFirstError(t *testing.T) {
	t.Parallel()
	g, ctx := WithContext(t.Context())
	g.Go(func() error { return errFailed })
	g.Go(func() error { <-ctx.Done(); return ctx.Err() })
	if err := g.Wait(); !errors.Is(err, errFailed) || !errors.Is(context.Cause(ctx), errFailed) {
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

func TestAllReturnsTheFirstErrorInTheList(t *testing.T) {
	t.Parallel()
	failed := make(chan struct{})
	later := errors.New("failed earlier, and is later in the list")
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
	var p *PanicError
	if err := Guard(func() error { return All(explode) }); !errors.As(err, &p) {
		t.Errorf("got %v, want the panic", err)
	}
}
