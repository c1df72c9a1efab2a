// Package action is the interface to the runner of a workflow step. It reads the inputs, writes the outputs and the
// summary, and prints everything that is printed: log lines, annotations, groups, progress.
//
// It prints text from outside (a store's message, an image's name, a file's name) so that it has no effect: a line
// never becomes a workflow command, control characters for a terminal are shown instead of sent, and known secrets are
// replaced by ***.
//
// The same calls work outside GitHub Actions, where annotations become plain lines, outputs are printed and a terminal
// shows a progress bar.
//
// The package makes no network call, and knows nothing of what the inputs and outputs mean.
package action

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/sethvargo/go-githubactions"
	"golang.org/x/term"

	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// Runner is what runs the program: GitHub Actions, a compatible runner, or a person at a terminal. Make one with [New].
// Its methods may be called by several goroutines at once.
type Runner struct {
	getenv   func(string) string
	files    *githubactions.Action // inputs and command files; never prints
	actions  bool                  // workflow commands are understood
	debug    bool                  // debug lines are wanted outside Actions
	terminal bool                  // a person is watching
	now      func() time.Time
	jsonPath string // of a file for the outputs; empty for none

	mu      sync.Mutex // guards what follows; a line is printed under one lock
	out     io.Writer
	secrets redactor
	bar     *progressbar.ProgressBar // drawn on the terminal's last line, or nil
}

// New returns the runner that the environment describes: GitHub Actions where GITHUB_ACTIONS is true. Everything is
// printed to stdout, because that is the only stream in which a runner looks for workflow commands.
func New(getenv func(string) string, stdout io.Writer) *Runner {
	actions := getenv("GITHUB_ACTIONS") == "true"
	file, ok := stdout.(*os.File)
	return &Runner{
		getenv:   getenv,
		files:    githubactions.New(githubactions.WithGetenv(getenv), githubactions.WithWriter(io.Discard)),
		actions:  actions,
		debug:    getenv("RUNNER_DEBUG") == "1",
		terminal: !actions && ok && term.IsTerminal(int(file.Fd())),
		now:      time.Now,
		out:      stdout,
		secrets:  redactor{},
	}
}

// Input returns an input of the step, trimmed; empty when not given.
func (r *Runner) Input(name string) string { return r.files.GetInput(name) }

// Variable returns an environment variable, trimmed.
func (r *Runner) Variable(name string) string { return strings.TrimSpace(r.getenv(name)) }

// Workspace returns the folder in which inputs may name files.
func (r *Runner) Workspace() workspace.Workspace { return workspace.New(r.getenv) }

// Fail prints why the run failed: under Actions as one annotation that holds the complete text, however many lines it
// has. It doesn't exit.
func (r *Runner) Fail(err error) {
	if r.actions {
		r.command("error", "upload-resource", err.Error())
		return
	}
	r.say("Error: " + err.Error())
}

// Group starts a part of the log that a reader can fold. The caller ends it with end, which may be called more than
// once. Runners don't nest groups. Outside Actions the title is a line of its own.
func (r *Runner) Group(title string) (end func()) {
	if !r.actions {
		r.say(title)
		return func() {}
	}
	r.command("group", "", oneLine(r.redact(title)))
	return sync.OnceFunc(func() { r.command("endgroup", "", "") })
}

// say prints text as plain lines.
func (r *Runner) say(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sayLocked(text)
}

// sayLocked is [Runner.say] for a caller that holds r.mu.
func (r *Runner) sayLocked(text string) {
	r.writeLocked(plain(r.secrets.redact(text)))
}

// command prints a workflow command. An empty title is left out.
func (r *Runner) command(name, title, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	command := githubactions.Command{Name: name, Message: data(r.secrets.redact(text))}
	if title != "" {
		title = oneLine(r.secrets.redact(title))
		command.Properties = githubactions.CommandProperties{"title": title}
	}
	r.writeLocked(command.String())
}

// writeLocked writes a finished line, above the progress bar if there is one. A log that can't be written can't say so:
// errors are dropped.
func (r *Runner) writeLocked(line string) {
	if r.bar != nil {
		_ = r.bar.Clear()
	}
	_, _ = io.WriteString(r.out, line+"\n")
}
