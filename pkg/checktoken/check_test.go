package checktoken

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// env is the environment of a test, by variable name.
type env = testkit.Env

const (
	aToken       = testkit.Token
	anotherToken = "eyJ0IjogIm1hY2Fyb29uIiwgInYiOiAiYW5vdGhlciB0b2tlbiwgZm9yIHJlbGVhc2VzIn0="
)

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// newRunner returns a runner and the buffer to which it prints.
func newRunner(e env) (*action.Runner, *bytes.Buffer) {
	var out bytes.Buffer
	return action.New(e.Get, &out), &out
}

// fakeStore is a Charmhub that says these.
type fakeStore struct {
	token                            charmhub.Token
	refused, noResources, noReleases error
}

// Token returns the test's token, or the error with which the store refuses it.
func (s fakeStore) Token(context.Context) (charmhub.Token, error) { return s.token, s.refused }

// Resources returns an empty list, or the test's error.
func (s fakeStore) Resources(context.Context, string) ([]charmhub.Resource, error) {
	return nil, s.noResources
}

// Releases returns an empty channel map, or the test's error.
func (s fakeStore) Releases(context.Context, string) (charmhub.Releases, error) {
	return charmhub.Releases{}, s.noReleases
}

func TestInputs(t *testing.T) {
	type token struct {
		Input    string
		Releases bool
	}
	for name, test := range map[string]struct {
		given      env
		want       []token
		warn, fail int
	}{
		"one token, for all":   {env{}, []token{{"store-token", true}}, 14, 0},
		"one token, to upload": {env{"INPUT_RELEASE-TOKEN": "none"}, []token{{"store-token", false}}, 14, 0},
		"two tokens": {env{"INPUT_RELEASE-TOKEN": anotherToken, "INPUT_WARN-DAYS": "30"},
			[]token{{"store-token", false}, {"release-token", true}}, 30, 0},
		"the same token twice": {env{"INPUT_RELEASE-TOKEN": aToken, "INPUT_FAIL-DAYS": "7"},
			[]token{{"store-token", true}}, 14, 7},
		"charmcraft's variable": {env{"INPUT_STORE-TOKEN": "", "CHARMCRAFT_AUTH": aToken},
			[]token{{"store-token", true}}, 14, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRunner(env{"INPUT_CHARM": "my-charm", "INPUT_STORE-TOKEN": aToken}.With(test.given))
			in, err := ReadInputs(r)
			if err != nil {
				t.Fatal(err)
			}
			var got []token
			for _, one := range in.Tokens {
				if one.Credentials == nil {
					t.Errorf("%s has no credentials", one.Input)
				}
				got = append(got, token{one.Input, one.Releases})
			}
			if diff := cmp.Diff(test.want, got); diff != "" || in.WarnDays != test.warn || in.FailDays != test.fail {
				t.Errorf("warn %d, fail %d, tokens:\n%s", in.WarnDays, in.FailDays, diff)
			}
		})
	}
}

// TestComplaints: all that is wrong is said at once, and no token is shown.
func TestComplaints(t *testing.T) {
	r, out := newRunner(env{
		"GITHUB_ACTIONS": "true", "INPUT_CHARM": "My charm", "INPUT_RELEASE-TOKEN": "no token at all",
		"INPUT_WARN-DAYS": "soon", "INPUT_FAIL-DAYS": "-1",
		"INPUT_STORE-URL": "http://example.com",
	})
	_, err := ReadInputs(r)
	testkit.WantError(t, err,
		`input charm: "My charm" is invalid; `,
		"input store-token: no credentials for Charmhub are given; make some with `charmcraft login --export=token.txt "+
			"--charm=My charm --permission=package-manage-revisions --permission=package-view-revisions --ttl",
		"input release-token: cannot read the store token: ",
		`input warn-days: "soon" is no number of days; write one, for example 14`,
		`input fail-days: "-1" is no number of days; `,
		"input store-url: the URL doesn't start with https://",
	)
	r.Fail(err)
	if !strings.Contains(out.String(), "::add-mask::no token at all") ||
		strings.Count(out.String(), "no token at all") != 1 {
		t.Errorf("the token that can't be read is shown, or isn't masked:\n%s", out)
	}
}

func TestCheck(t *testing.T) {
	in := func(days int) time.Time { return now.AddDate(0, 0, days).Add(time.Hour) }
	upload, all := charmhub.Permissions(false), charmhub.Permissions(true)
	refused := errors.New("the store refuses it")
	for name, test := range map[string]struct {
		store    fakeStore
		releases bool
		days     string // left, empty if unknown
		problems string // in the error; empty for none
		warning  string
	}{
		"all": {fakeStore{token: charmhub.Token{Expires: in(80)}}, true, "80", "", ""},
		"exactly what uploads need": {fakeStore{token: charmhub.Token{Permissions: upload, Charms: []string{"my-charm"},
			Expires: in(14)}}, false, "14", "", ""},
		"unknown end": {fakeStore{token: charmhub.Token{Permissions: all}}, true, "", "", ""},
		"ends soon": {fakeStore{token: charmhub.Token{Expires: in(13)}}, true, "13", "",
			"check store-token: it expires in 13 days, on 2030-01-14; make a new one with `charmcraft login " +
				"--export=token.txt --charm=my-charm --permission=package-manage-revisions"},
		"ends tomorrow": {fakeStore{token: charmhub.Token{Expires: in(1)}}, true, "1",
			"check store-token: it expires in 1 day, on 2030-01-02; make a new one", ""},
		"ends today": {fakeStore{token: charmhub.Token{Expires: in(0)}}, true, "0",
			"check store-token: it expires within a day, on 2030-01-01; make a new one", ""},
		"ended": {fakeStore{token: charmhub.Token{Expires: in(-1)}}, true, "-1",
			"check store-token: it expired on 2029-12-31; make a new one", ""},
		"refused": {fakeStore{refused: refused}, true, "", "check store-token: the store refuses it", ""},
		"for uploads only": {fakeStore{token: charmhub.Token{Permissions: upload}}, true, "",
			"check store-token: it lacks the permissions package-manage-releases, package-view-releases; make a new one with",
			""},
		"of another charm": {fakeStore{token: charmhub.Token{Charms: []string{"a", "b"}}, noResources: refused}, false, "",
			"check store-token: it is for the charms a, b, not for my-charm; make a new one with `", ""},
		"of a charm by ID":   {fakeStore{token: charmhub.Token{Charms: []string{"id"}}}, true, "", "", ""},
		"of another account": {fakeStore{noReleases: refused}, true, "", "check store-token: the store refuses it", ""},
		"no releases wanted": {fakeStore{noReleases: refused}, false, "", "", ""},
		"several at the same": {fakeStore{token: charmhub.Token{Permissions: []string{}, Expires: in(0)}}, false, "0",
			"lacks the permissions package-manage-revisions, package-view-revisions; make", ""},
	} {
		t.Run(name, func(t *testing.T) {
			given := Inputs{Charm: "my-charm", Tokens: []GivenToken{{Input: "store-token", Releases: test.releases}},
				WarnDays: 14, FailDays: 2}
			results, err := Check(t.Context(), given, now, func(GivenToken) Store { return test.store })
			if test.problems == "" && err != nil || test.problems != "" &&
				(err == nil || !strings.Contains(err.Error(), test.problems)) {
				t.Errorf("error %v, want %q", err, test.problems)
			}
			if test.warning == "" && results[0].Warning != "" || !strings.HasPrefix(results[0].Warning, test.warning) {
				t.Errorf("warning %q, want %q", results[0].Warning, test.warning)
			}
			outputs, err := outputs(results)
			if want := testDays(test.days); err != nil || outputs[0].Value != want {
				t.Errorf("days left %q, want %q: %v", outputs[0].Value, want, err)
			}
			if report := outputs[1].Value; (report != "") != (test.problems+test.warning != "") ||
				!strings.Contains(report, test.problems) || !strings.Contains(report, test.warning) {
				t.Errorf("report %q", report)
			}
		})
	}
}

// testDays returns the output for a number of days. No number gives "unknown".
func testDays(days string) string {
	if days == "" {
		return "unknown"
	}
	return days
}

// reported keeps the summary.
type reported struct {
	*action.Runner
	summary string
}

// AddSummary appends the text to the summary.
func (r *reported) AddSummary(text string) error { r.summary += text; return nil }

func TestReport(t *testing.T) {
	runner, log := newRunner(env{})
	to := &reported{Runner: runner}
	in := Inputs{Charm: "my-charm", Tokens: []GivenToken{{Input: "store-token"}, {Input: "release-token", Releases: true}},
		WarnDays: 14}
	stores := map[string]fakeStore{
		"store-token": {token: charmhub.Token{Account: "jane|doe", Charms: []string{"my-charm"},
			Permissions: charmhub.Permissions(false), Expires: now.AddDate(0, 0, 9)}},
		"release-token": {refused: errors.New("cannot ask:\nthe token has expired")},
	}
	results, err := Check(t.Context(), in, now, func(token GivenToken) Store { return stores[token.Input] })
	testkit.WantError(t, err, "check release-token: cannot ask:")
	if err := Report(to, in, results); err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "report.log", log.String())
	testkit.Golden(t, "report.md", to.summary)
}
