package registry

import (
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestLifeOf(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]time.Duration{
		`{"token":"x","expires_in":300}`: 5 * time.Minute,
		`{"token":"x","expires_in":1.5}`: 1500 * time.Millisecond,
		`{"token":"x","expires_in":-1}`:  0,
		`{"token":"x","expires_in":1e9}`: 24 * time.Hour,
		`{"token":"x"}`:                  time.Minute,
		`no JSON`:                        time.Minute,
	} {
		if got := tokenLife([]byte(answer)); got != want {
			t.Errorf("%s lasts %s, want %s", answer, got, want)
		}
	}
}

// TestTokenExpiresBeforeABlob: a token past half of its life is offered before a blob is sent, so that no byte is sent
// in vain. Here it is good for some requests, while it says that it is good for no time.
func TestTokenExpiresBeforeABlob(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	for _, life := range []int{1, 4} {
		g := newGuard(t, life)
		g.fields = `,"expires_in":0`
		r, c := g.open(t)
		layer, err := random.Layer(size, types.DockerLayer)
		if err != nil {
			t.Fatal(err)
		}
		p := mustPlan(t, r, mustAppend(t, layer))
		p.Missing, p.Manifests = p.Missing[1:], nil // two blobs at once would take each other's tokens
		before := g.issued()
		if _, err := r.Push(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
		if sent := c.sent.Load(); sent > size+1<<20 {
			t.Errorf("%d bytes were sent of %d", sent, size)
		}
		if life == 1 && g.issued()-before < 2 {
			t.Errorf("%d tokens, the test proves nothing", g.issued()-before)
		}
	}
}

// TestTokenIsRefused: without being asked, a registry refuses a token while the blob is on its way, or ends the
// request. The blob arrives all the same.
func TestTokenIsRefused(t *testing.T) {
	t.Parallel()
	var layers []v1.Layer
	for _, size := range []int64{1000, 9 << 20} {
		layer, err := random.Layer(size, types.DockerLayer)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
	}
	r, _ := newGuard(t, 4).open(t)
	mustPush(t, r, mustAppend(t, layers...))
}

// FuzzLifeOf: whatever a token service answers, a token's life has bounds.
func FuzzLifeOf(f *testing.F) {
	for _, answer := range []string{`{"expires_in":300}`, `{"expires_in":1e308}`, `{"expires_in":"5"}`, `[]`} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if life := tokenLife(answer); life < 0 || life > 24*time.Hour {
			t.Errorf("%q lasts %s", answer, life)
		}
	})
}
