package action

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestMaskTellsTheRunnerOnce(t *testing.T) {
	r, out := newRunner(t, underActions)
	for _, secret := range []string{"s3cret%value", "s3cret%value", "", "short", "line-one\r\n\n  line-two\nabc\n"} {
		r.Mask(secret)
	}
	want := "::add-mask::s3cret%25value\n::add-mask::line-one\n::add-mask::line-two\n"
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMaskOutsidePrintsNothing(t *testing.T) {
	r, out := newRunner(t, outside)
	r.Mask("s3cret-value")
	if out.Len() != 0 {
		t.Errorf("printed %q", out)
	}
}

func TestRedact(t *testing.T) {
	for _, tt := range []struct{ name, secrets, text, want string }{
		{"none known", "", "open text", "open text"},
		{"in the middle", "secret", "a secret here", "a *** here"},
		{"all of it", "secret", "secret", "***"},
		{"twice", "secret", "secret, secret", "***, ***"},
		{"one inside another", "secret\nmy secret word", "my secret word", "***"},
		{"overlapping", "abcdef\ndefghi", "<abcdefghi>", "<***>"},
		{"overlapping itself", "abaaba", "<abaabaaba>", "<***>"},
		{"too short", "abc", "abc", "abc"},
		{"each line of several", "first-line\nsecond-line", "second-line then first-line", "*** then ***"},
		{"quoted in an error", `{"key":"v"}`, `got "{\"key\":\"v\"}"`, `got "***"`},
		{"encoded in an output", `<k>"v"`, `{"name":"\u003ck\u003e\"v\""}`, `{"name":"***"}`},
		{"escaped for the summary", "key_value:x", Escape("<key_value:x>"), "&#60;***&#62;"},
		{"beside other bytes", "sécret", "\xff sécret é", "\xff *** é"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := newRunner(t, outside)
			r.Mask(tt.secrets)
			if got := r.redact(tt.text); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	const secret = `macaroon "v1|x_y" <z>`
	for _, e := range []env{{"RUNNER_DEBUG": "1"}, underActions} {
		r, out := newRunner(t, e)
		r.Mask(secret)
		out.Reset()
		log := r.Logger().With(zap.String("with", secret))
		log.Debug(secret, zap.String("field", secret), zap.Error(errors.New(secret)))
		log.Info(secret)
		log.Warn(secret)
		log.Error(secret)
		r.Fail(errors.New(secret))
		r.Group(secret)()
		if err := r.SetOutputs(Output{Name: "name", Value: secret}); err != nil {
			t.Error(err)
		}
		for _, part := range []string{"macaroon", "v1|x", "x_y", "<z>"} {
			if strings.Contains(out.String(), part) {
				t.Errorf("%q of the secret was printed:\n%s", part, out)
			}
		}
	}
}
