package action

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
)

const (
	progressEvery = 10 * time.Second       // between lines in a log, which stay
	barEvery      = 100 * time.Millisecond // between drawings of a bar
)

// progress reports how much of one piece of work is done. It is ours because githubactions has none, and a log without
// a line for minutes looks like a hang; the library draws only the terminal's bar.
type progress struct {
	runner *Runner
	what   string
	total  int64
	done   int64
	start  time.Time
	next   time.Time // when the next line is due
	bar    *progressbar.ProgressBar
	ended  bool
}

// Progress shows how far a long piece of work has come, such as "Compressing layers", in bytes out of total; a total of
// 0 is unknown. On a terminal it is a bar, elsewhere a line every ten seconds, hence none for work that is done sooner.
// A terminal has room for one bar: while it is drawn, others print lines.
//
// Call add with each number of bytes that are done, negative where work is repeated, from any goroutine, and done in
// the end.
func (r *Runner) Progress(what string, total int64) (add func(bytes int64), done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what, start := oneLine(r.secrets.redact(what)), r.now()
	p := &progress{runner: r, what: what, total: total, start: start, next: start.Add(progressEvery)}
	if !r.terminal || r.bar != nil {
		return p.add, p.end
	}
	if total <= 0 {
		total = -1 // the library's word for unknown
	}
	p.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(r.out),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(barEvery),
		progressbar.OptionClearOnFinish(),
		// With 0 the library doesn't draw by itself, between two lines of ours.
		progressbar.OptionSetSpinnerChangeInterval(0),
	)
	r.bar = p.bar
	return p.add, p.end
}

// add counts n more bytes, and draws the bar, or prints a line if one is due. After end it does nothing.
func (p *progress) add(n int64) {
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
		size := Size(p.done)
		if p.total > 0 {
			size += " of " + Size(p.total)
		}
		r.sayLocked(fmt.Sprintf("%s: %s, %s", p.what, size, Duration(now.Sub(p.start))))
	}
}

// end removes the bar from the terminal, and prints nothing: the caller reports the result.
func (p *progress) end() {
	r := p.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.bar != nil && !p.ended {
		_ = p.bar.Clear()
		r.bar = nil
	}
	p.ended = true
}
