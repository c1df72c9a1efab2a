package server

import (
	"slices"
	"strings"
	"testing"
)

// TestSearchText: a secret is found wherever it is, also across the end of what is read at once.
func TestSearchText(t *testing.T) {
	secrets := []string{"correct horse", "battery"}
	for offset := 1<<18 - 20; offset < 1<<18+20; offset++ {
		text := strings.Repeat("x", offset) + "correct horse" + strings.Repeat("y", 1<<18)
		if found, err := searchText(strings.NewReader(text), secrets); err != nil || !slices.Equal(found, secrets[:1]) {
			t.Errorf("at %d: found %q and %v", offset, found, err)
		}
	}
	for _, text := range []string{"", "x", "correct hors", "batter\x00y"} {
		if found, err := searchText(strings.NewReader(text), secrets); err != nil || len(found) > 0 {
			t.Errorf("%q: found %q and %v", text, found, err)
		}
	}
}
