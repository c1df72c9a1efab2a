package action

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
)

const (
	progressEvery = 10 * time.Second       // between lines in a log, which stay
	barEvery      = 100 * time.Millisecond // between drawings of a bar
)

// Progress tells how far a long piece of work has come: on a terminal as a bar,
// elsewhere as a line every ten seconds, hence none for work that is done
// sooner. It may be used by several goroutines at once.
type Progress struct {
	runner *Runner
	what   string
	total  int64
	done   int64
	start  time.Time
	next   time.Time // when the next line is due
	bar    *progressbar.ProgressBar
	ended  bool
}

// Progress starts to tell about what is being done, such as "Compressing
// layers", in bytes out of total; a total of 0 is unknown. Call Done in the end.
// A terminal has room for one bar: while it is drawn, others print lines.
func (r *Runner) Progress(what string, total int64) *Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	what, start := oneLine(r.secrets.redact(what)), r.now()
	p := &Progress{runner: r, what: what, total: total, start: start, next: start.Add(progressEvery)}
	if r.terminal && r.bar == nil {
		p.bar = r.newBar(what, total)
		r.bar = p.bar
	}
	return p
}

func (r *Runner) newBar(what string, total int64) *progressbar.ProgressBar {
	if total <= 0 {
		total = -1 // the library's word for unknown
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(r.out),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(barEvery),
		progressbar.OptionClearOnFinish(),
		// 0 keeps the library from drawing by itself, between two lines of ours.
		progressbar.OptionSetSpinnerChangeInterval(0),
	)
}

// Add tells that n more bytes are done; n may be negative where work is
// repeated.
func (p *Progress) Add(n int64) {
	r := p.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.ended {
		return
	}
	p.done += n
	if p.bar != nil {
		_ = p.bar.Add64(n) // more than the total is no reason to stop
		return
	}
	if now := r.now(); !now.Before(p.next) {
		p.next = now.Add(progressEvery)
		r.sayLocked(p.line(now))
	}
}

// Write counts b as done, so that a Progress can stand in an io.MultiWriter or
// behind an io.TeeReader. It never fails.
func (p *Progress) Write(b []byte) (int, error) {
	p.Add(int64(len(b)))
	return len(b), nil
}

// Done ends the telling and takes the bar off the terminal. What came of the
// work is for the caller to say.
func (p *Progress) Done() {
	r := p.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.bar != nil && !p.ended {
		_ = p.bar.Clear()
		r.bar = nil
	}
	p.ended = true
}

func (p *Progress) line(now time.Time) string {
	size := humanSize(p.done)
	if p.total > 0 {
		size += " of " + humanSize(p.total)
	}
	return fmt.Sprintf("%s: %s, %s", p.what, size, humanTime(now.Sub(p.start)))
}

func humanSize(n int64) string {
	return humanize.Bytes(uint64(max(0, n)))
}

func humanTime(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	if s < 60 {
		return fmt.Sprintf("%d s", s)
	}
	return fmt.Sprintf("%d min %d s", s/60, s%60)
}
