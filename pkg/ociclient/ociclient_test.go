package ociclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	answer := func(status int) error { return fmt.Errorf("asking: %w", &registryTransport.Error{StatusCode: status}) }
	for name, test := range map[string]struct {
		err                       error
		notFound, denied, failure bool
	}{
		"none":         {},
		"another":      {err: io.EOF},
		"not found":    {err: answer(404), notFound: true},
		"no login":     {err: answer(401), denied: true},
		"forbidden":    {err: answer(403), denied: true},
		"too often":    {err: answer(429), failure: true},
		"its own":      {err: answer(500), failure: true},
		"a gateway's":  {err: answer(502), failure: true},
		"unsupported":  {err: answer(405)},
		"unanswered":   {err: fmt.Errorf("asking: %w", &url.Error{Op: "Get", URL: "http://x", Err: io.EOF}), failure: true},
		"a redirect's": {err: answer(307)},
	} {
		if got := IsStatus(test.err, 404, 410); got != test.notFound {
			t.Errorf("%s: IsStatus = %t", name, got)
		}
		if got := IsDenied(test.err); got != test.denied {
			t.Errorf("%s: IsDenied = %t", name, got)
		}
		if got := IsFailure(test.err); got != test.failure {
			t.Errorf("%s: IsFailure = %t", name, got)
		}
	}
}

func TestIsScopeRefusal(t *testing.T) {
	t.Parallel()
	const challenge = `Bearer realm="https://x/token",service="x",scope="repository:a:pull"`
	for name, test := range map[string]struct {
		status     int
		challenges []string
		want       bool
	}{
		"of distribution": {401, []string{challenge + `,error="insufficient_scope"`}, true},
		"of RFC 6750":     {403, []string{challenge + `, error="insufficient_scope"`}, true},
		"a token":         {401, []string{challenge + `, error=insufficient_scope, realm="x"`}, true},
		"the second":      {401, []string{`Basic realm="x"`, challenge + `,error="insufficient_scope"`}, true},
		"expired":         {401, []string{challenge + `,error="invalid_token"`}, false},
		"first":           {401, []string{challenge}, false},
		"none":            {403, nil, false},
		"of another kind": {401, []string{`Basic realm="x",error="insufficient_scope"`}, false},
		"not a refusal":   {500, []string{challenge + `,error="insufficient_scope"`}, false},
		"a longer word":   {401, []string{challenge + `,error="insufficient_scopes"`}, false},
	} {
		res := &http.Response{StatusCode: test.status, Header: http.Header{"Www-Authenticate": test.challenges}}
		if got := IsScopeRefusal(res); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
	if IsScopeRefusal(nil) {
		t.Error("no answer is a refusal")
	}
}

func TestWithoutToken(t *testing.T) {
	t.Parallel()
	for given, want := range map[error]string{
		errors.New("no token in bearer response:\n{\"secret\": \"hunter2\"}"): "the token service of quay.io answered " +
			"without a token; run this again later",
		io.EOF: "EOF",
	} {
		if got := WithoutToken(given, "quay.io"); got.Error() != want {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
	if err := WithoutToken(nil, "quay.io"); err != nil {
		t.Errorf("no error becomes %v", err)
	}
}

func TestCheckRedirect(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status   int
		location string
		want     string // of the error
	}{
		"an answer":        {200, "https://evil.example/", ""},
		"without location": {304, "", ""},
		"the same host":    {307, "/v2/elsewhere", ""},
		"another host": {307, "https://evil.example/v2/",
			`quay.io redirected a POST to "https://evil.example", another host, which isn't followed`},
		"another port": {301, "https://quay.io:8443/", `"https://quay.io:8443", another host`},
		"without TLS":  {302, "http://quay.io/v2/", `"http://quay.io", another host`},
		"no URL":       {302, "https://%zz", "quay.io redirected a POST to an invalid URL"},
	} {
		req := httptest.NewRequest(http.MethodPost, "https://quay.io/token", nil)
		res := &http.Response{StatusCode: test.status, Header: http.Header{}, Request: req}
		if test.location != "" {
			res.Header.Set("Location", test.location)
		}
		err := CheckRedirect(req, res)
		if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
