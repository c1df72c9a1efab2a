package registry

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// pausing is a transport whose answers take a time each.
type pausing []time.Duration

func (p *pausing) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep((*p)[0])
	*p = (*p)[1:]
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// TestSlowAnswers: a registry is slow if even its fastest answer is. What takes long for other reasons, such as a
// body to send, doesn't count.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	get, put := "https://registry.example/v2/", "https://registry.example/v2/with-a-body"
	for name, test := range map[string]struct {
		urls []string
		took pausing
		slow bool
	}{
		"nothing asked":     {nil, nil, false},
		"fast":              {[]string{get}, pausing{time.Millisecond}, false},
		"slow":              {[]string{get, get}, pausing{500 * time.Millisecond, slowAnswer}, true},
		"fast once":         {[]string{get, get, get}, pausing{time.Second, time.Millisecond, time.Second}, false},
		"a token service":   {[]string{"https://auth.example/token"}, pausing{time.Second}, false},
		"a body takes long": {[]string{put}, pausing{time.Second}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := baseTransport{next: &test.took, host: "registry.example", seen: new(observed)}
				for _, url := range test.urls {
					body := ""
					if url == put {
						body = "body"
					}
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					res, err := w.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					_ = res.Body.Close()
				}
				if got := w.seen.isSlow(); got != test.slow {
					t.Errorf("slow: %t", got)
				}
			})
		})
	}
}

// answering is a transport that notes the URLs asked for and always gives the same answer.
type answering struct {
	asked  []string
	status int
	header http.Header
	body   io.Reader
	err    error
}

func (a *answering) RoundTrip(req *http.Request) (*http.Response, error) {
	a.asked = append(a.asked, req.URL.String())
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{
		StatusCode: cmp.Or(a.status, http.StatusOK), Header: a.header, Body: io.NopCloser(a.body), Request: req,
	}, nil
}

// TestPathOfARegistry: a registry may be below a path of its host, of which nobody else knows.
func TestPathOfARegistry(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ path, url, want string }{
		{"/below", "https://registry.example/v2/x", "https://registry.example/below/v2/x"},
		{"/below", "https://registry.example/token", "https://registry.example/token"},
		{"/below", "https://other.example/v2/x", "https://other.example/v2/x"},
		{"", "https://registry.example/v2/x", "https://registry.example/v2/x"},
		{"", "https://registry.example/v2/x%2Fy", "https://registry.example/v2/x%2Fy"},
	} {
		next := &answering{body: http.NoBody}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := baseTransport{next: next, host: "registry.example", path: test.path}
		res, err := w.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if want := []string{test.want}; !slices.Equal(next.asked, want) {
			t.Errorf("%s below %q is asked for as %q", test.url, test.path, next.asked)
		}
	}
}

// TestRoundTripFails: an answer that can't be used is an error, and so is a body that can't be sent again.
func TestRoundTripFails(t *testing.T) {
	t.Parallel()
	elsewhere := http.Header{"Location": {"https://other.example/"}}
	cut := iotest.ErrReader(errors.New("cut off"))
	const token, blob = "https://registry.example/token?scope=some", "https://registry.example/v2/x/blobs/sha256:1"
	for name, test := range map[string]struct {
		next    answering
		url     string
		getBody error
		want    string // empty for none
	}{
		"no answer":        {next: answering{err: errors.New("no answer")}, want: "no answer"},
		"no body":          {getBody: errors.New("no body"), want: "no body"},
		"elsewhere":        {next: answering{status: 307, header: elsewhere}, want: "another host"},
		"a blob elsewhere": {next: answering{status: 307, header: elsewhere}, url: blob},
		"half a token":     {next: answering{body: cut}, url: token, want: "cut off"},
		"half a refusal":   {next: answering{status: 403, body: cut}, url: token},
		"half an answer":   {next: answering{body: cut}},
	} {
		if test.next.body == nil {
			test.next.body = http.NoBody
		}
		url := cmp.Or(test.url, "https://registry.example/v2/")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.getBody != nil {
			req.GetBody = func() (io.ReadCloser, error) { return nil, test.getBody }
		}
		for _, seen := range []*observed{new(observed), nil} {
			if seen == nil && test.url == token { // without an observer, tokens aren't read here
				test.want = ""
			}
			res, err := baseTransport{next: &test.next, host: "registry.example", seen: seen}.RoundTrip(req)
			switch {
			case test.want != "":
				wantError(t, err, test.want)
			case err != nil:
				t.Errorf("%s: %v", name, err)
			default:
				_ = res.Body.Close()
			}
		}
	}
}

// TestTokenAges: half of a token's life, from when it was asked for.
func TestTokenAges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := new(observed)
		if o.isTokenAged() {
			t.Error("no token is aged")
		}
		answer := &http.Response{Body: http.NoBody} // whose token lasts a minute, since it doesn't say
		asked := time.Now()
		time.Sleep(10 * time.Second)
		if err := o.readToken(answer, asked); err != nil || o.isTokenAged() {
			t.Errorf("after 10 s: %t, %v", o.isTokenAged(), err)
		}
		time.Sleep(21 * time.Second)
		if !o.isTokenAged() {
			t.Error("it isn't aged after 31 s")
		}
	})
}
