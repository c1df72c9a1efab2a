package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
)

// figures are what one run took.
type figures struct {
	wall     time.Duration
	sent     int64 // bytes of request bodies that the registry received
	requests requests
	peak     peak
	problem  string // why the run doesn't count; empty if it does
}

// measure runs a tool once, on a home of its own, and keeps what that took. The
// hub is nil for a tool that sends nothing. A tool that fails isn't an error,
// but a result.
func (b *bench) measure(ctx context.Context, h *hub, t tool, situation, subject string, src source) error {
	home, err := newHome(b.work, h)
	if err != nil {
		return err
	}
	defer home.remove()
	syscall.Sync() // or this run pays for what the one before wrote
	h.reset()
	f := home.run(ctx, t.steps(home, src))
	if err := ctx.Err(); err != nil {
		return err
	}
	f.requests, f.sent = h.counts()
	if err := h.check(ctx, home, src.image); err != nil && f.problem == "" {
		f.problem = err.Error()
	}
	b.results.add(row{situation, subject}, f)
	progress("  %s, %s: %s, %s sent, %s requests, %s memory, %s disk %s", situation, subject,
		seconds(f.wall), humanBytes(f.sent), f.requests, humanBytes(f.peak.memory), humanBytes(f.peak.disk), f.problem)
	return nil
}

// run runs the steps of a tool one after another, until one fails.
func (h *home) run(ctx context.Context, steps []step) (f figures) {
	began := time.Now()
	for _, s := range steps {
		p, err := h.runStep(ctx, s)
		f.peak = f.peak.max(p)
		if err != nil {
			f.problem = fmt.Sprintf("%s: %v\n%s", s.args[0], err, h.logged())
			break
		}
	}
	f.wall = time.Since(began)
	return f
}

func (h *home) runStep(ctx context.Context, s step) (peak, error) {
	c := command(ctx, s.args[0], s.args[1:]...)
	c.Env = append(h.environment(), s.env...)
	c.Dir = h.dir
	if c.Stderr = h.log; !s.quiet {
		c.Stdout = h.log
	}
	if err := c.Start(); err != nil {
		return peak{}, err
	}
	watched := watch(c.Process.Pid, h.tmp)
	err := c.Wait()
	return watched(), err
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func humanBytes(n int64) string { return humanize.Bytes(uint64(max(0, n))) }
