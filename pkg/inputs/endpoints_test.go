package inputs

import (
	"net/url"
	"testing"
)

// Only of Charmhub's own API is known which registry it names.
func TestLikelyRegistry(t *testing.T) {
	const theirs = "https://registry.example"
	for name, test := range map[string]struct {
		store, registry string
		want            string
	}{
		"Charmhub":                        {productionStore, "", productionRegistry},
		"Charmhub, with a registry given": {productionStore, theirs, theirs},
		"another store":                   {"https://api.staging.charmhub.io", "", ""},
		"another, with a registry given":  {"https://api.staging.charmhub.io", theirs, theirs},
	} {
		t.Run(name, func(t *testing.T) {
			var e Endpoints
			var err error
			if e.Store, err = url.Parse(test.store); err != nil {
				t.Fatal(err)
			}
			if test.registry != "" {
				if e.Registry, err = url.Parse(test.registry); err != nil {
					t.Fatal(err)
				}
			}
			got := ""
			if u := e.LikelyRegistry(); u != nil {
				got = u.String()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
