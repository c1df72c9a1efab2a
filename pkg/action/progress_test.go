package action

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

// clock stands still until it is moved.
type clock struct{ at time.Time }

// now returns the time at which the clock stands.
func (c *clock) now() time.Time { return c.at }

func TestProgressLines(t *testing.T) {
	r, out := newRunner(t, underActions)
	at := &clock{time.Unix(0, 0)}
	r.now = at.now
	r.Mask("the-secret")
	out.Reset()
	known, done := r.Progress("Compressing layers", 1_600_000_000)
	unknown, _ := r.Progress("Reading the-secret\n::error::x", 0)
	for range 14 {
		known(40_000_000)
		unknown(1500)
		at.at = at.at.Add(5 * time.Second)
	}
	at.at = at.at.Add(time.Minute)
	known(-400_000_000)
	done()
	done()
	at.at = at.at.Add(time.Minute)
	known(1)
	testkit.Golden(t, "progress", out.String())
}

func TestProgressIsSilentWhenQuick(t *testing.T) {
	r, out := newRunner(t, underActions)
	at := &clock{time.Unix(0, 0)}
	r.now = at.now
	add, done := r.Progress("Sending", 10)
	at.at = at.at.Add(progressEvery - 1)
	add(10)
	done()
	if out.Len() != 0 {
		t.Errorf("printed %q", out)
	}
}

func TestProgressBar(t *testing.T) {
	r, out := newRunner(t, outside)
	r.terminal = true
	for _, total := range []int64{1000, 0} {
		add, done := r.Progress("Sending\x1b[2J", total)
		add(500)
		if got := out.String(); !strings.Contains(got, `Sending\x1b[2J`) || !strings.Contains(got, "500") {
			t.Errorf("total %d: drawn %q", total, got)
		}
		out.Reset()
		r.say("a line")
		if got := out.String(); !strings.HasPrefix(got, "\r") || !strings.HasSuffix(got, "\ra line\n") {
			t.Errorf("total %d: the line was printed into the bar: %q", total, got)
		}
		add(2000)
		done()
		out.Reset()
		add(1)
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
	r.Progress("One", 10)
	first := r.bar
	add, done := r.Progress("Two", 10)
	add(5)
	if r.bar != first {
		t.Error("two bars on one line")
	}
	if done(); r.bar != first {
		t.Error("the end of the second took the bar of the first away")
	}
}

func TestConcurrentUse(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		r, out := newRunner(t, outside)
		r.terminal = terminal
		add, done := r.Progress("Sending", 0)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 50 {
					add(100)
					r.Mask("secret-" + time.Now().String())
					r.Logger().Info("a whole line")
				}
			})
		}
		all.Wait()
		done()
		if got := strings.Count(out.String(), "a whole line\n"); got != 200 {
			t.Errorf("%d whole lines of 200", got)
		}
	}
}
