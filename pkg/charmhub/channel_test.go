package charmhub

import (
	"slices"
	"strings"
	"testing"
)

func TestParseChannel(t *testing.T) {
	for text, want := range map[string]Channel{
		"edge":                   {"", "edge", ""},
		"latest/stable":          {"latest", "stable", ""},
		"2.0/candidate":          {"2.0", "candidate", ""},
		"beta/fix-1":             {"", "beta", "fix-1"},
		"latest/edge/pr-12":      {"latest", "edge", "pr-12"},
		"latest/edge/fix--1":     {"latest", "edge", "fix--1"},
		"latest/edge/fix_.1-":    {"latest", "edge", "fix_.1-"},
		"latest/edge/1+2~3":      {"latest", "edge", "1+2~3"},
		"stable/edge":            {"", "stable", "edge"},
		"3-k8s_x/edge/feat_2.x":  {"3-k8s_x", "edge", "feat_2.x"},
		"latest/stable/stable":   {"latest", "stable", "stable"},
		"1.15-24.04/edge/pr.1-2": {"1.15-24.04", "edge", "pr.1-2"},
	} {
		got, err := ParseChannel(text)
		if err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
		again, err := ParseChannel(got.String())
		if err != nil || again != got {
			t.Errorf("%s becomes %+v, %v", got, again, err)
		}
	}
	for _, text := range []string{
		"", "latest", "2.0", "latest/", "/edge", "edge/", "latest/Edge", "latest/edge/", "latest/edge/a/b", "a/b/c",
		"lat est/edge", "latest/edge/-x", "-x/edge", "../edge", "latest/edge/x\n", "latest/edge/" + strings.Repeat("x", 129),
	} {
		if got, err := ParseChannel(text); err == nil || len(err.Error()) > 300 {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
}

func TestChannelsAreOrdered(t *testing.T) {
	channels := []Channel{
		{"2", "stable", ""}, {"latest", "stable", ""}, {"latest", "candidate", ""}, {"latest", "edge", ""},
		{"latest", "edge", "a"}, {"latest", "edge", "b"},
	}
	if !slices.IsSortedFunc(channels, Channel.Compare) {
		t.Error("not in order")
	}
}

// FuzzParseChannel: what is taken for a channel has a name by which it is found again, which can stand in a table, a
// log and a URL.
func FuzzParseChannel(f *testing.F) {
	for _, text := range []string{"edge", "latest/edge", "2.0/beta/pr-1", "stable/stable/stable", "a//b",
		"latest/edge\n::error::"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		channel, err := ParseChannel(text)
		if err != nil {
			return
		}
		if again, err := ParseChannel(channel.String()); err != nil || again != channel {
			t.Errorf("%q becomes %q, %v", text, channel, err)
		}
		if strings.ContainsFunc(channel.String(),
			func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("|<>`%?#\\", r) }) {
			t.Errorf("%q", channel)
		}
	})
}
