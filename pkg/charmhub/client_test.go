package charmhub

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestRequestsCarryTokenAndAgent(t *testing.T) {
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Macaroon plain-token" {
			t.Errorf("Authorization is %q", got)
		}
		if got := r.Header.Get("User-Agent"); got != "upload-resource" {
			t.Errorf("User-Agent is %q", got)
		}
		answer(200, `{}`)(w, r)
	})
	if _, err := client.whoami(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNoRedirectToAnotherHost(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("followed to another host with Authorization %q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/v1", status)
		})
		_, err := client.Resources(t.Context(), "c")
		if err == nil {
			t.Fatalf("%d: no error", status)
		}
		wantIn(t, err.Error(), "redirects to "+other.URL, "not followed")
		wantNotIn(t, err.Error(), "plain-token")
	}
}

func TestRedirectsOnTheSameHost(t *testing.T) {
	client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/charm/old/resources":
			http.Redirect(w, r, "/v1/charm/new/resources", http.StatusMovedPermanently)
		case "/v1/charm/loop/resources":
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case "/v1/charm/new/resources":
			answer(200, `{"resources":[{"name":"r"}]}`)(w, r)
		default:
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	})
	list, err := client.Resources(t.Context(), "old")
	if err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	if _, err := client.Resources(t.Context(), "loop"); err == nil || !strings.Contains(err.Error(), "too often") {
		t.Errorf("a loop ends in %v", err)
	}
	if _, err := client.CreateRevision(t.Context(), "c", "r", NewRevision{}); err == nil ||
		!strings.Contains(err.Error(), "redirects a POST") {
		t.Errorf("a POST that is sent on as a GET ends in %v", err)
	}
	wantNotIn(t, rec.log(), "/elsewhere")
}

func TestNamesStayWithinTheirPathSegment(t *testing.T) {
	client, rec := serve(t, answer(200, `{}`))
	if _, err := client.Revisions(t.Context(), "../admin?x=1", "a/b#c%2f"); err != nil {
		t.Fatal(err)
	}
	if got, want := rec.log(), "GET /v1/charm/..%2Fadmin%3Fx=1/resources/a%2Fb%23c%252f/revisions"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	var sent endless
	client, _ := serve(t, nil)
	client.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		response := reply(r, 200, "")
		response.Body = io.NopCloser(io.LimitReader(&sent, 64<<20))
		return response, nil
	})
	_, lists := client.Revisions(t.Context(), "c", "r")
	_, blob := client.ImageBlob(t.Context(), "c", "r", "sha256:00")
	for _, err := range []error{lists, blob} {
		if err == nil || !strings.Contains(err.Error(), "longer than 8388608 bytes") {
			t.Errorf("an endless answer ends in %v", err)
		}
	}
	if sent.read > 17<<20 {
		t.Errorf("%d bytes were read of them", sent.read)
	}
}

func TestUnusableAnswersAndAddresses(t *testing.T) {
	client, _ := serve(t, answer(200, "{\"resources\": \x1b[31m"))
	_, err := client.Resources(t.Context(), "c")
	if err == nil {
		t.Fatal("no error")
	}
	wantIn(t, err.Error(), "cannot list the resources of charm 'c'", "not the JSON that was expected")
	wantNotIn(t, err.Error(), "\x1b")

	client = New(Config{StoreURL: "http://[::1", Credentials: mustParse(t, paste("x")), Logger: zap.NewNop()})
	if _, err := client.Resources(t.Context(), "c"); err == nil {
		t.Error("an address that is none was called")
	}
	if _, err := client.Await(t.Context(), "/x"); err == nil {
		t.Error("an address that is none was polled")
	}
}

func TestCancelledCallsSaySo(t *testing.T) {
	client, _ := serve(t, answer(200, `{}`))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Resources(ctx, "c"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
