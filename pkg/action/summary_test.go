package action

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// summaryRunner returns a runner that writes a job summary, and a function that reads this summary.
func summaryRunner(t *testing.T) (*Runner, func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "summary")
	r, _ := newRunner(t, env{"GITHUB_STEP_SUMMARY": path})
	return r, func() string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
}

func TestAddSummaryAppendsRedacted(t *testing.T) {
	r, read := summaryRunner(t)
	r.Mask("the-secret")
	for _, markdown := range []string{"# One", "Two the-secret"} {
		if err := r.AddSummary(markdown); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := read(), "# One\nTwo ***\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAddSummaryKeepsTheLimit(t *testing.T) {
	r, read := summaryRunner(t)
	line := strings.Repeat("x", 99) + "\n"
	for _, markdown := range []string{line, strings.Repeat(line, 1<<20/100)} {
		if err := r.AddSummary(markdown); err != nil {
			t.Fatal(err)
		}
	}
	got := read()
	if len(got) > 1<<20 || len(got) < 1<<20-300 {
		t.Errorf("the summary has %d bytes", len(got))
	}
	if !strings.HasSuffix(got, "x\n"+summaryCut+"\n") {
		t.Errorf("the summary ends with %q", got[len(got)-100:])
	}
	if err := r.AddSummary(strings.Repeat(line, 10)); err == nil {
		t.Error("a full summary took more")
	}
}

func TestAddSummaryFillsTheLimitToTheByte(t *testing.T) {
	r, read := summaryRunner(t)
	for _, size := range []int{99, 1<<20 - 100 - 1} {
		if err := r.AddSummary(strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(); len(got) != 1<<20 || strings.Contains(got, "left out") {
		t.Errorf("the summary has %d bytes", len(got))
	}
	if err := r.AddSummary(""); err == nil {
		t.Error("a full summary took a line break more")
	}
}

func TestAddSummaryWithoutOne(t *testing.T) {
	r, out := newRunner(t, outside)
	if err := r.AddSummary("# One"); err != nil || out.Len() != 0 {
		t.Errorf("got error %v, printed %q", err, out)
	}
}

func TestAddSummarySaysThatTheFileIsNotWritable(t *testing.T) {
	r, _ := newRunner(t, env{"GITHUB_STEP_SUMMARY": t.TempDir()})
	if err := r.AddSummary("# One"); err == nil {
		t.Error("no error")
	}
}

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"my-charm, 2+2=4/x": "my-charm, 2+2=4/x",
		"a|b":               "a&#124;b",
		"`code`":            "&#96;code&#96;",
		"<b>&amp;":          "&#60;b&#62;&#38;amp&#59;",
		"*x* _y_ [z](u)":    "&#42;x&#42; &#95;y&#95; &#91;z&#93;&#40;u&#41;",
		"https://evil.x":    "https&#58;//evil&#46;x",
		"@team #1":          "&#64;team &#35;1",
		"one\n| two":        "one &#124; two",
		"\x1b[1m\u202e":     "&#92;x1b&#91;1m&#92;u202e",
		"é 中":               "é 中",
	} {
		if got := Escape(text); got != want {
			t.Errorf("Escape(%q) = %q, want %q", text, got, want)
		}
	}
}
