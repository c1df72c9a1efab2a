package action

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock stands still until it is moved.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestProgressLines(t *testing.T) {
	r, out := newRunner(t, underActions)
	at := &clock{time.Unix(0, 0)}
	r.now = at.now
	r.Mask("the-secret")
	out.Reset()
	known, unknown := r.Progress("Compressing layers", 1_600_000_000), r.Progress("Reading the-secret\n::error::x", 0)
	for range 14 {
		known.Add(40_000_000)
		unknown.Add(1500)
		at.at = at.at.Add(5 * time.Second)
	}
	at.at = at.at.Add(time.Minute)
	known.Add(-400_000_000)
	known.Done()
	known.Done()
	at.at = at.at.Add(time.Minute)
	known.Add(1)
	golden(t, "progress", out.String())
}

func TestProgressIsSilentWhenQuick(t *testing.T) {
	r, out := newRunner(t, underActions)
	at := &clock{time.Unix(0, 0)}
	r.now = at.now
	p := r.Progress("Sending", 10)
	at.at = at.at.Add(progressEvery - 1)
	if n, err := io.Copy(p, strings.NewReader("0123456789")); n != 10 || err != nil {
		t.Errorf("took %d bytes, error %v", n, err)
	}
	p.Done()
	if out.Len() != 0 {
		t.Errorf("printed %q", out)
	}
}

func TestProgressBar(t *testing.T) {
	r, out := newRunner(t, outside)
	r.terminal = true
	for _, total := range []int64{1000, 0} {
		p := r.Progress("Sending\x1b[2J", total)
		p.Add(500)
		if got := out.String(); !strings.Contains(got, `Sending\x1b[2J`) || !strings.Contains(got, "500") {
			t.Errorf("total %d: drawn %q", total, got)
		}
		out.Reset()
		r.say("a line")
		if got := out.String(); !strings.HasPrefix(got, "\r") || !strings.HasSuffix(got, "\ra line\n") {
			t.Errorf("total %d: the line was printed into the bar: %q", total, got)
		}
		p.Add(2000)
		p.Done()
		out.Reset()
		p.Add(1)
		r.say("after")
		if got := out.String(); got != "after\n" {
			t.Errorf("total %d: after the end %q was printed", total, got)
		}
		out.Reset()
	}
}

func TestProgressHasOneBar(t *testing.T) {
	r, _ := newRunner(t, outside)
	r.terminal = true
	first, second := r.Progress("One", 10), r.Progress("Two", 10)
	if first.bar == nil || second.bar != nil {
		t.Error("two bars on one line")
	}
	second.Done()
	if r.bar != first.bar {
		t.Error("the end of the second took the bar of the first away")
	}
}

func TestConcurrentUse(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		r, out := newRunner(t, outside)
		r.terminal = terminal
		p := r.Progress("Sending", 0)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 50 {
					p.Add(100)
					r.Mask("secret-" + time.Now().String())
					r.Logger().Info("a whole line")
				}
			})
		}
		all.Wait()
		p.Done()
		if got := strings.Count(out.String(), "a whole line\n"); got != 200 {
			t.Errorf("%d whole lines of 200", got)
		}
	}
}
