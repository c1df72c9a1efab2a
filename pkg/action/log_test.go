package action

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

// hostile are texts that try to be more than text.
var hostile = []string{
	"::error::taken over",
	"  \t::set-env name=PATH::/evil",
	"\u00a0\u2003::add-mask::x",
	"\u200d::error::joined",
	"\ufeff:\u200b:error::split",
	"\u034f::stop-commands::x",
	"first\n::error::second\r::warning::third\r\n##[error]fourth",
	"text ##[add-matcher]/evil.json and ###[error]x",
	"##\u00ad[error]soft",
	"\x1b]0;title\x07\x1b[2J\x1b[31mred",
	"100%0A::error::unescaped",
	"[::1]:5000 and a::b",
	":::error::x",
	"\xff\xfe::error::x",
	"é::error::x",
	"",
	"\n\n",
}

// logAll logs a line of each level, and texts that try to pass for workflow commands.
func logAll(r *Runner) {
	log := r.Logger()
	log.Debug("reading the index", zap.String("digest", "sha256:ab"), zap.Int("layers", 3),
		zap.String("note", "two words"))
	log.Info("Using the OCI image from Canonical's registry")
	log.Warn("the tag has moved", zap.Bool("moved", true))
	log.With(zap.String("charm", "my-charm")).Error("refused", zap.Error(errors.New("no\npermission: 100%")))
	end := r.Group("Pushing\n::error::x")
	log.Info("two lines\n::error::of which one is hostile")
	end()
	end()
	for _, text := range hostile {
		log.Info(text)
		log.Warn(text)
	}
	r.Fail(errors.New("could not push:\nthe registry said ::error::no"))
}

func TestLog(t *testing.T) {
	for name, e := range map[string]env{
		"log.actions": underActions,
		"log.outside": outside,
		"log.debug":   {"RUNNER_DEBUG": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			r, out := newRunner(t, e)
			logAll(r)
			testkit.Golden(t, name, out.String())
		})
	}
}

func TestFailIsOneAnnotation(t *testing.T) {
	r, out := newRunner(t, underActions)
	r.Fail(errors.Join(errors.New("one: a,b"), errors.New("two: 5%")))
	want := "::error title=upload-resource::one: a,b%0Atwo: 5%25\n"
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzLog shows that no text can become a workflow command, whichever way it is printed: plain lines hold none, and an
// annotation is one line with one.
func FuzzLog(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		printed := func(show func(*Runner)) []string {
			r, out := newRunner(t, underActions)
			show(r)
			return asRead(out.String())
		}
		for _, line := range printed(func(r *Runner) {
			r.Logger().Info(text, zap.String(text, text))
			r.Logger().Info("key", zap.String("key", text))
			_ = r.SetOutputs(Output{Name: "name", Value: text})
		}) {
			if name := commandIn(line); name != "" || strings.ContainsAny(line, "\x1b\x07\x00\u009b") {
				t.Errorf("%q became the command %q in the line %q", text, name, line)
			}
		}
		for want, show := range map[string]func(*Runner){
			"debug":   func(r *Runner) { r.Logger().Debug(text) },
			"warning": func(r *Runner) { r.Logger().Warn(text) },
			"error":   func(r *Runner) { r.Fail(errors.New(text)) },
			"group":   func(r *Runner) { r.Group(text) },
		} {
			lines := printed(show)
			if len(lines) != 1 || commandIn(lines[0]) != want || strings.ContainsAny(lines[0], "\x1b\x07\x00\u009b") {
				t.Errorf("%q printed as %s became %q", text, want, lines)
			}
		}
	})
}

// TestLogNoError: zap.Error is given errors that may be nil.
func TestLogNoError(t *testing.T) {
	r, out := newRunner(t, outside)
	r.Logger().Info("nothing went wrong", zap.Error(nil), zap.Bool("found", true))
	if got, want := out.String(), "nothing went wrong found=true\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}
