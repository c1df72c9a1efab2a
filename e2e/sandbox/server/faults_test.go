package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestFaults(t *testing.T) {
	s := start(t, server.Options{})
	for _, test := range []struct {
		name   string
		fault  server.Fault
		status int
		text   string
	}{
		{"gateway", server.Fault{Status: 502, Header: http.Header{"content-type": {"text/html"}}, Body: "<html>"},
			502, "<html>"},
		{"dropped", server.Fault{Drop: true}, 0, "EOF"},
		{"answer cut", server.Fault{AfterBytes: 5}, 200, "EOF"},
		{"slow", server.Fault{Delay: 1}, 200, `"resources"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.ResetRequests()
			s.Fault(func(server.Request) *server.Fault { return &test.fault })
			defer s.Fault(nil)
			got := publisher(t, s, http.MethodGet, resources, "")
			if got.status != test.status || !strings.Contains(got.text, test.text) {
				t.Errorf("%+v, want %d and %q", got, test.status, test.text)
			}
			if logged := s.Requests(); logged[0].Status != test.status {
				t.Errorf("logged: %v", logged)
			}
		})
	}
}

func TestUnclearAnswer(t *testing.T) {
	s := start(t, server.Options{})
	id := send(t, s, "content")
	s.Fault(func(r server.Request) *server.Fault {
		if r.Server == "store" && r.Method == http.MethodPost {
			return &server.Fault{Handle: true}
		}
		return nil
	})
	body := `{"upload-id":"` + id + `","type":"file","bases":[{"name":"all","channel":"all","architectures":["all"]}]}`
	if got := publisher(t, s, http.MethodPost, filePath+"/revisions", body); got.status != 0 {
		t.Fatalf("answered: %+v", got)
	}
	publisher(t, s, http.MethodGet, filePath+"/revisions", "")
	publisher(t, s, http.MethodGet, filePath+"/revisions", "")
	if n := len(s.Revisions("my-charm", "my-file")); n != 1 {
		t.Errorf("%d revisions, want 1: it was handled", n)
	}
}

func TestRequestsAreLogged(t *testing.T) {
	lines := make(chan string, 10)
	s := start(t, server.Options{Log: func(line string) { lines <- line }})
	id := send(t, s, "content")
	publisher(t, s, http.MethodGet, resources, "")
	logged := s.Requests()
	if len(logged) != 2 || logged[0].Server != "storage" || logged[1].Server != "store" {
		t.Fatalf("logged: %v", logged)
	}
	if logged[0].BodyBytes < int64(len("content")) || logged[1].Header.Get("Authorization") == "" {
		t.Errorf("logged: %v", logged)
	}
	for range 2 {
		if line := <-lines; strings.Contains(line, "Macaroon") || strings.Contains(line, "\n") {
			t.Errorf("line %q", line)
		}
	}
	submit(t, s, id) // has a body, but no content
	if sent := s.SentBytes(); sent != logged[0].BodyBytes {
		t.Errorf("%d bytes of content were sent, not %d", sent, logged[0].BodyBytes)
	}
	s.ResetRequests()
	if logged := s.Requests(); len(logged) != 0 {
		t.Errorf("after the reset: %v", logged)
	}
}
