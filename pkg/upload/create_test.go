package upload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

var errGone = errors.New("gone")

// store answers with the first error for each call, nil for none, and then with none.
type store struct {
	upload, ask, await []error
	existed            bool
	calls              []string
	sent               string
}

// answer notes a call, and takes the next error from errs.
func (s *store) answer(call string, errs *[]error) error {
	s.calls = append(s.calls, call)
	if len(*errs) == 0 {
		return nil
	}
	err := (*errs)[0]
	*errs = (*errs)[1:]
	return err
}

// Upload reads the content and returns the file's name as the upload's ID.
func (s *store) Upload(_ context.Context, name string, _ int64, open func() (io.ReadCloser, error)) (string, error) {
	content, err := open()
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(content)
	s.sent = string(text)
	return name, errors.Join(err, content.Close(), s.answer("upload", &s.upload))
}

// Await returns revision 7, or the next error for it.
func (s *store) Await(context.Context, string) (charmhub.Reviewed, error) {
	return charmhub.Reviewed{Revision: 7, Existed: s.existed}, s.answer("await", &s.await)
}

// quiet is a runner that shows nothing.
type quiet struct{ read int64 }

// Logger returns a logger that drops everything.
func (*quiet) Logger() *zap.Logger { return zap.NewNop() }

// Progress returns a function that counts the bytes, and one that does nothing at the end.
func (q *quiet) Progress(string, int64) (func(int64), func()) {
	return func(n int64) { q.read += n }, func() {}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	unclear := fmt.Errorf("lost: %w", charmhub.ErrUnclear)
	busy := &charmhub.Error{Status: http.StatusTooManyRequests}
	refused := &charmhub.Error{Status: http.StatusForbidden}
	for name, test := range map[string]struct {
		store store
		find  []bool  // what each look finds; none looks
		look  []error // how looks fail

		calls    string
		existed  bool
		err      error
		asked    bool // for a revision, by the error
		mayExist bool
	}{
		"at once":       {calls: "upload ask await"},
		"there already": {store: store{existed: true}, calls: "upload ask await", existed: true},
		"sent twice": {store: store{upload: []error{busy}, existed: true},
			calls: "upload upload ask await", existed: true},
		"an answer lost": {store: store{ask: []error{unclear}, existed: true},
			calls: "upload ask upload ask await"},
		"an answer lost, and found": {store: store{ask: []error{unclear}}, find: []bool{true},
			calls: "upload ask find"},
		"an answer lost, and not found": {store: store{ask: []error{unclear}}, find: []bool{false},
			calls: "upload ask find upload ask await"},
		"an answer lost, and no other": {store: store{ask: []error{unclear}}, find: []bool{false}, look: []error{errGone},
			calls: "upload ask find", err: errGone, asked: true, mayExist: true},
		"never": {store: store{ask: []error{unclear, unclear, unclear}},
			calls: "upload ask upload ask upload ask", err: unclear, asked: true, mayExist: true},
		"lost, and then not sent": {store: store{ask: []error{unclear}, upload: []error{nil, errGone}},
			calls: "upload ask upload", err: errGone, asked: true, mayExist: true},
		"not sent":          {store: store{upload: []error{errGone}}, calls: "upload", err: errGone},
		"not to be created": {store: store{ask: []error{refused}}, calls: "upload ask", err: refused},
		"rejected": {store: store{await: []error{errGone}}, calls: "upload ask await", err: errGone,
			asked: true},
		"a review that can't be looked at": {store: store{await: []error{refused}}, calls: "upload ask await", err: refused,
			asked: true, mayExist: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sum := sha256.Sum256([]byte("content"))
			runner := &quiet{}
			content := Content{
				Name: "file", Size: 7,
				Open: func(add func(int64)) func() (io.ReadCloser, error) {
					return Verified(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil },
						sha256.New, hex.EncodeToString(sum[:]), add)
				},
				Ask: func(context.Context, string) (string, error) { return "", test.store.answer("ask", &test.store.ask) },
			}
			if test.find != nil {
				content.Find = func(context.Context) (bool, error) {
					found := test.find[0]
					test.find = test.find[1:]
					return found, test.store.answer("find", &test.look)
				}
			}
			uploader := Uploader{Store: &test.store, Runner: runner,
				Wait: func(context.Context, time.Duration) error { return nil }}
			reviewed, err := uploader.Create(t.Context(), content)
			if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) || reviewed.Existed != test.existed {
				t.Errorf("got %+v and error %v, want %t and %v", reviewed, err, test.existed, test.err)
			}
			asked, ok := errors.AsType[*AskedError](err)
			if ok != test.asked || ok && asked.MayExist != test.mayExist {
				t.Errorf("the error says asked %t, %+v; want %t, %t", ok, asked, test.asked, test.mayExist)
			}
			if calls := strings.Join(test.store.calls, " "); calls != test.calls || test.store.sent != "content" ||
				runner.read != 7*int64(strings.Count(calls, "upload")) {
				t.Errorf("calls %s, want %s; sent %q, %d bytes read", calls, test.calls, test.store.sent, runner.read)
			}
		})
	}
}

func TestVerifiedContentThatChanged(t *testing.T) {
	t.Parallel()
	file, err := Verified(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("other")), nil },
		sha256.New, "00", func(int64) {})()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(file); err == nil ||
		!strings.Contains(err.Error(), "the content changed after its digest was computed") {
		t.Errorf("error %v", err)
	}
	if _, err := Verified(func() (io.ReadCloser, error) { return nil, os.ErrNotExist }, sha256.New, "00",
		func(int64) {})(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
