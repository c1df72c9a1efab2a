package charmhub

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

func TestErrorDialects(t *testing.T) {
	cases := map[string]struct {
		status        int
		body          string
		code, message string
		want          []string
	}{
		"charmhub": {400, `{"error-list":[{"code":"bad-thing","message":"no good"},{"code":"more","message":"also bad"}]}`,
			"bad-thing", "no good; also bad", []string{"400 Bad Request (bad-thing): no good; also bad"}},
		"snap side":      {400, `{"error_list":[{"code":"c","message":"m"}]}`, "c", "m", nil},
		"null code":      {400, `{"error-list":[{"code":null,"message":"m"}]}`, "", "m", []string{"400 Bad Request: m"}},
		"number as code": {400, `{"error-list":[{"code":7,"message":"m"},"odd",{"code":"c"}]}`, "c", "m", nil},
		"single sign-on": {400, `{"code":"INVALID","message":"m","extra":{}}`, "INVALID", "m", nil},
		"empty":          {500, ``, "", "", []string{"500 Internal Server Error; the server has a failure of its own"}},
		"sentence": {500, `{"error-list":[{"message":"Try later."}]}`, "", "Try later.",
			[]string{"Error: Try later; the server has a failure of its own"}},
		"HTML": {502, "<html><title>502</title>\x1b[31mnginx</html>", "", "",
			[]string{": a gateway in front of 127.0.0.1:", "answered 502 Bad Gateway; run this again later"}},
		"HTML of a refusal": {403, "<html>", "", "",
			[]string{": something in front of 127.0.0.1:",
				"answered 403 Forbidden; check its address, and that this machine may reach it"}},
		"list of nothing": {400, `{"error-list":null}`, "", "", nil},
		"not an object":   {400, `["x"]`, "", "", nil},
		"cut":             {400, `{"error-list":[{"code":"c"`, "", "", nil},
		"escapes": {400, `{"error-list":[{"code":"c\u001b]0;x\u0007","message":"one\r\n::error::two\u001b[2J ` +
			`\u202emore\u0000"}]}`,
			"c ]0;x", "one ::error::two [2J more", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, answer(c.status, c.body))
			_, err := client.whoami(t.Context())
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("got %v", err)
			}
			if refused.Status != c.status || refused.Code != c.code || refused.Message != c.message {
				t.Errorf("got %d %q %q, want %d %q %q", refused.Status, refused.Code, refused.Message, c.status, c.code, c.message)
			}
			wantIn(t, err.Error(), append(c.want, "cannot ask Charmhub whose store token this is: ", "127.0.0.1:")...)
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("control characters in %q", err)
			}
		})
	}
}

func TestErrorsAreBounded(t *testing.T) {
	entry := `{"code":"c","message":"` + strings.Repeat("m", 2000) + `"}`
	body := `{"error-list":[` + strings.Repeat(entry+",", 25) + entry + `]}`
	client, _ := serve(t, answer(400, body))
	_, err := client.whoami(t.Context())
	if n := len(err.Error()); n > 6000 {
		t.Errorf("the error has %d bytes", n)
	}
}

// A permission that the store names is in the command for another token, whatever the call.
func TestNamedPermissionIsAskedFor(t *testing.T) {
	for named, want := range map[string]string{
		"package-view-metadata":    " --permission=package-view-revisions --permission=package-view-metadata --ttl",
		"package-view-revisions":   " --permission=package-manage-revisions --permission=package-view-revisions --ttl",
		"package-view":             " --permission=package-manage --permission=package-view --ttl",
		"package-view-releases":    " --permission=package-manage --permission=package-view --ttl",
		"package-manage-revisions": " --permission=package-manage-revisions --permission=package-view-revisions --ttl",
		"package`; rm -rf":         " --permission=package-view-revisions --ttl",
	} {
		client, _ := serve(t, answer(403, `{"error-list":[{"code":"permission-required","message":"Missing required `+
			`permission: `+named+`"}]}`))
		_, err := client.Resources(t.Context(), "c")
		if named != "package-view-metadata" && !strings.Contains(named, "rm") { // by the text of an image
			_, err = client.ImageBlob(t.Context(), "c", "r", "sha256:d")
		}
		wantIn(t, fmt.Sprint(err), want)
	}
}

// charmcraft 4.4 changed the login, and Charmhub refuses the tokens of before.
func TestTokenOfAnOlderKind(t *testing.T) {
	for status, code := range map[int]string{400: "BadRequest", 401: "macaroon-authorization-required"} {
		client, _ := serve(t, answer(status, `{"error-list":[{"code":"`+code+`","message":"Invalid macaroon"}]}`))
		_, err := client.Revisions(t.Context(), "c", "r")
		wantIn(t, fmt.Sprint(err), code, "Invalid macaroon", "of the kind that charmcraft made before 4.4",
			"update charmcraft to 4.4 or later, and make a new one with `charmcraft login --export=token.txt --charm=c "+
				"--permission=")
	}
}

// The store's operators find a request by its ID.
func TestErrorNamesTheRequest(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "ABC-123\t"+strings.Repeat("x", 500))
		answer(400, `{"error-list":[{"code":"c","message":"m"}]}`)(w, r)
	})
	client.config.Logger = zap.New(core)
	_, err := client.Resources(t.Context(), "c")
	wantIn(t, fmt.Sprint(err), "answered 400 Bad Request (c): m (request ABC-123 xxx")
	if n := len(err.Error()); n > 300 {
		t.Errorf("the error has %d bytes", n)
	}
	wantIn(t, fmt.Sprint(logs.All()[0].ContextMap()), "request:ABC-123 xxx")
}

// A token without a permission is told from an account without by the message.
func TestMissingPermission(t *testing.T) {
	client, _ := serve(t, answer(403, `{"error-list":[{"code":"permission-required","message":"Missing required `+
		`permission: package-view-revisions"}]}`))
	_, err := client.CreateRevision(t.Context(), "c", "r", NewRevision{})
	if err == nil || strings.Contains(err.Error(), "collaborators") {
		t.Fatalf("got %v", err)
	}
	wantIn(t, err.Error(), "the store token lacks the permission package-view-revisions", "charmcraft login")
}

const whoami = `{"account":{"id":"i","username":"jane","display-name":"Jane","email":"e"},
	"packages":[{"type":"charm","name":"mine"},{"type":"charm","id":"abc123"}],"channels":null,
	"permissions":["package-view-metadata"]}`

func TestAdvice(t *testing.T) {
	list := func(c *Client) error { _, err := c.Resources(t.Context(), "c"); return err }
	revisions := func(c *Client) error { _, err := c.Revisions(t.Context(), "c", "r"); return err }
	create := func(c *Client) error {
		_, err := c.CreateRevision(t.Context(), "c", "r", NewRevision{})
		return err
	}
	credentials := func(c *Client) error { _, err := c.UploadCredentials(t.Context(), "c", "r"); return err }
	text := func(c *Client) error { _, err := c.ImageBlob(t.Context(), "c", "r", "sha256:d"); return err }
	review := func(c *Client) error {
		_, err := c.Await(t.Context(), "/v1/charm/c/revisions/review?upload-id=u")
		return err
	}
	wide := "`charmcraft login --export=token.txt --charm=c --permission=package-manage --permission=package-view " +
		"--ttl=7776000`"
	narrow := "`charmcraft login --export=token.txt --charm=c --permission=package-manage-revisions " +
		"--permission=package-view-revisions --ttl=7776000`"
	cases := map[string]struct {
		call   func(*Client) error
		status int
		code   string
		want   []string
	}{
		"credentials for the registry": {credentials, 403, "permission-required",
			[]string{"lack the permission package-manage", "publisher or one of its collaborators", wide, "'jane'"}},
		"text of an image": {text, 403, "macaroon-permission-required",
			[]string{"lack the permission package-manage", wide, "'jane'"}},
		"status of a review": {review, 403, "permission-required",
			[]string{"lacks the permission package-view-revisions", narrow, "'jane'"}},
		"upload": {func(c *Client) error {
			_, err := c.Upload(t.Context(), "f", 1, func() (io.ReadCloser,
				error) {
				return io.NopCloser(strings.NewReader("x")), nil
			})
			return err
		}, 403, "", []string{"lacks the permission package-manage-revisions"}},
		"expired": {list, 401, "", []string{"expired", "charmcraft login --export=token.txt --charm=c --permission="}},
		"read permission": {revisions, 403, "macaroon-permission-required",
			[]string{"lacks the permission package-view-revisions", "charmcraft login",
				"'jane', for the charms mine, abc123, with the permissions package-view-metadata"}},
		"write permission": {create, 403, "macaroon-permission-required",
			[]string{"lacks the permission package-manage-revisions"}},
		"not an owner": {create, 403, "permission-required",
			[]string{"may not do this to charm 'c'", "collaborators", "'jane'"}},
		"unknown charm": {list, 404, "resource-not-found", []string{"no charm 'c'", "charmcraft register c"}},
		"unknown resource": {revisions, 404, "resource-not-found",
			[]string{"resource 'r' must be declared", "charmcraft resources c"}},
		"down": {list, 503, "", []string{"again later"}},
		"busy": {list, 429, "", []string{"answered 429 Too Many Requests", "; run this again later"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/tokens/whoami" {
					answer(200, whoami)(w, r)
					return
				}
				answer(c.status, `{"error-list":[{"code":"`+c.code+`","message":"m"}]}`)(w, r)
			})
			err := c.call(client)
			if err == nil {
				t.Fatal("no error")
			}
			wantIn(t, err.Error(), append(c.want, ": m")...)
			_ = c.call(client)
			if n := strings.Count(rec.log(), "whoami"); n > 1 {
				t.Errorf("asked whoami %d times", n)
			}
		})
	}
}

func TestAdviceWithoutWhoami(t *testing.T) {
	client, rec := serve(t, answer(403, `{"error-list":[{"code":"permission-required","message":"m"}]}`))
	_, err := client.Resources(t.Context(), "c")
	if err == nil {
		t.Fatal("no error")
	}
	wantIn(t, err.Error(), "may not do this to charm 'c'")
	wantNotIn(t, err.Error(), "this token is")
	if got, want := rec.log(), "GET /v1/charm/c/resources\nGET /v1/tokens/whoami"; got != want {
		t.Errorf("requests: %s", got)
	}
}

func TestUnclearCreate(t *testing.T) {
	broken := func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	dial := func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	answered := func(status int, body string) roundTrip {
		return func(r *http.Request) (*http.Response, error) { return reply(r, status, body), nil }
	}
	cutOff := func(r *http.Request) (*http.Response, error) {
		response := reply(r, 200, "")
		response.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"status`), failing{}))
		return response, nil
	}
	cases := map[string]struct {
		transport roundTrip
		unclear   bool
	}{
		"connection broke":   {broken, true},
		"answer cut off":     {cutOff, true},
		"answer not JSON":    {answered(200, "<html>"), true},
		"answer without URL": {answered(200, "{}"), true},
		"gateway":            {answered(502, "<html>"), true},
		"trouble":            {answered(500, ""), true},
		"never connected":    {dial, false},
		"refused":            {answered(400, ""), false},
		"not allowed":        {answered(403, ""), false},
		"too many requests":  {answered(429, ""), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, nil)
			client.http.Transport = c.transport
			_, err := client.CreateRevision(t.Context(), "c", "r", NewRevision{UploadID: "u", Type: charm.TypeFile})
			if err == nil {
				t.Fatal("no error")
			}
			if errors.Is(err, ErrUnclear) != c.unclear {
				t.Errorf("unclear: %v, want %v: %v", !c.unclear, c.unclear, err)
			}
			wantIn(t, err.Error(), "cannot create a revision of resource 'r' of charm 'c': ")
			_, err = client.Revisions(t.Context(), "c", "r")
			if errors.Is(err, ErrUnclear) {
				t.Error("a list is never unclear")
			}
		})
	}
}

// failing is a body that can't be read.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "30": 30 * time.Second, "-1": 0, "soon": 0, "9223372036854775807": 0,
		"Fri, 31 Dec 1999 23:59:59 GMT": 0,
	} {
		client, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		_, err := client.whoami(t.Context())
		var refused *Error
		if !errors.As(err, &refused) || refused.RetryAfter != want {
			t.Errorf("Retry-After %q: got %v, want to wait %s", header, err, want)
		}
	}
}
