package charmhub

import (
	"testing"

	"gopkg.in/macaroon.v2"
)

func TestBoundDischargeIsTheGoldenOneAndVerifies(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			p, err := newPair(v.Root, v.Discharge)
			if err != nil {
				t.Fatal(err)
			}
			if p.bound != v.Bound {
				t.Errorf("bound discharge is\n%s, want\n%s", p.bound, v.Bound)
			}
			if err := verify(t, v, p.bound); err != nil {
				t.Errorf("the store would refuse it: %v", err)
			}
			if verify(t, v, v.Discharge) == nil {
				t.Error("an unbound discharge passes, so this test shows nothing")
			}
		})
	}
}

// verify checks root and discharge as the store does.
func verify(t *testing.T, v vector, discharge string) error {
	t.Helper()
	root, err := readMacaroon(v.Root)
	if err != nil {
		t.Fatal(err)
	}
	d, err := readMacaroon(discharge)
	if err != nil {
		t.Fatal(err)
	}
	anyCaveat := func(string) error { return nil }
	return root.Verify([]byte(v.RootKey), anyCaveat, []*macaroon.Macaroon{d})
}

func TestBindingChangesNeitherInput(t *testing.T) {
	v := vectors(t)[0]
	p, err := newPair(v.Root, v.Discharge)
	if err != nil {
		t.Fatal(err)
	}
	if p.root != v.Root || p.discharge != v.Discharge {
		t.Error("root or discharge is not what was given")
	}
}
