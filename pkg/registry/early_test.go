package registry

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func layersIn(t *testing.T, img v1.Image) []v1.Layer {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return layers
}

// TestSendBlob: what is sent before the plan is known isn't sent again, and is shown as sent.
func TestSendBlob(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 1000, 6)
	layers := layersIn(t, img)
	mustPush(t, v, mustAppend(t, layers[0])) // which the repository has then
	v = v.again()
	s.log()
	var g sync.WaitGroup
	for _, layer := range append(layers[:3], layers[1]) {
		g.Go(func() {
			if err := v.SendBlob(t.Context(), layer); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if n := count(s.log(), "POST"); n != 2 {
		t.Errorf("%d uploads, want 2", n)
	}
	p, err := v.Plan(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	var shown int64
	if _, err := v.Push(t.Context(), p, func(n int64) { shown += n }); err != nil {
		t.Fatal(err)
	}
	if n := count(s.log(), "POST"); n != 4 {
		t.Errorf("%d uploads after that, want the config's and three", n)
	}
	if want := Size(p.Missing); shown != want || len(p.Missing) != 6 {
		t.Errorf("%d bytes shown of %d blobs, want %d of 6", shown, len(p.Missing), want)
	}
}

// TestSendBlobFails: Push sends what could not be sent early.
func TestSendBlobFails(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 1000, 1)
	var posts atomic.Int64
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPost && posts.Add(1) == 1 && answer(w, http.StatusForbidden, "DENIED")
	})
	wantError(t, v.SendBlob(t.Context(), layersIn(t, img)[0]), "DENIED")
	p, err := v.Plan(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Push(t.Context(), p, nil); err != nil {
		t.Error(err)
	}
}

func TestLacks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 10, 1)
	if lacks, err := v.Lacks(t.Context(), configOf(t, img)); !lacks || err != nil {
		t.Errorf("%t, %v", lacks, err)
	}
	mustPush(t, v, img)
	if lacks, err := v.again().Lacks(t.Context(), configOf(t, img)); lacks || err != nil {
		t.Errorf("pushed: %t, %v", lacks, err)
	}
	s.spoil(func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, http.StatusForbidden, "DENIED") })
	if lacks, err := v.again().Lacks(t.Context(), configOf(t, img)); lacks || err == nil {
		t.Errorf("refused: %t, %v", lacks, err)
	}
}
