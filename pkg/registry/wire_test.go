package registry

import (
	"net/http"
	"strings"
	"testing"
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
