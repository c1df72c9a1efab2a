package server

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// publicHandlers are what Juju asks the store for, without credentials: the revisions of a resource, and their content,
// which is on the storage's host.
func (s *Server) publicHandlers(mux *http.ServeMux) {
	mux.HandleFunc("GET /v2/charms/resources/{charm}/{resource}/revisions", func(w http.ResponseWriter, r *http.Request) {
		value, err := s.listPublicRevisions(r.PathValue("charm"), r.PathValue("resource"))
		answer(w, value, err)
	})
	mux.HandleFunc("GET "+downloadPath+"{file}", func(w http.ResponseWriter, r *http.Request) {
		revision := s.publicRevision(r.PathValue("file"))
		if revision == nil {
			answerError(w, refuse(http.StatusNotFound, "resource-not-found", "No such resource"))
			return
		}
		http.Redirect(w, r, s.StorageURL+contentPath+revision.sums["sha256"]+"?signature="+randomText(), http.StatusFound)
	})
}

// The paths below which revisions are downloaded, and to which those redirect.
const (
	downloadPath = "/api/v1/resources/download/"
	contentPath  = "/content/"
)

// listPublicRevisions lists the revisions as Juju sees them, newest first. A private charm is unknown to those who
// don't say who they are.
func (s *Server) listPublicRevisions(name, resource string) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.charms[name]
	if c == nil || c.private {
		return nil, unknownCharm(name)
	}
	r := c.find(resource)
	if r == nil {
		return nil, unknownResource(name, resource)
	}
	listed := []map[string]any{}
	for _, revision := range slices.Backward(r.revisions) {
		if revision.state != approvedState || revision.unseen > 0 || s.now().Before(revision.shown) {
			continue
		}
		listed = append(listed, map[string]any{
			"name": r.name, "type": r.typ, "revision": revision.number, "description": "", "filename": "",
			"created-at": revision.created.UTC().Format(time.RFC3339),
			"download": map[string]any{
				"url":  fmt.Sprintf("%s%scharm_%s.%s_%d", s.StoreURL, downloadPath, c.id, r.name, revision.number),
				"size": revision.size, "hash-sha-256": revision.sums["sha256"], "hash-sha-384": revision.sums["sha384"],
				"hash-sha-512": revision.sums["sha512"], "hash-sha3-384": revision.sums["sha3-384"],
			},
		})
	}
	return map[string]any{"revisions": listed}, nil
}

// publicRevision returns the revision that a download's name is of: charm_<charm's ID>.<resource>_<number>. It is nil
// for what isn't public.
func (s *Server) publicRevision(file string) *revision {
	id, rest, _ := strings.Cut(strings.TrimPrefix(file, "charm_"), ".")
	cut := strings.LastIndex(rest, "_")
	number, err := strconv.Atoi(rest[cut+1:])
	if err != nil || cut < 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.charms {
		if c.id != id || c.private {
			continue
		}
		if r := c.find(rest[:cut]); r != nil {
			for _, revision := range r.revisions {
				if revision.number == number && revision.state == approvedState {
					return revision
				}
			}
		}
	}
	return nil
}

// serveContent is the host that downloads lead to. The address is signed, and the host takes no credentials beside
// that, as stores of objects do.
func (s *Server) serveContent(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" || r.URL.Query().Get("signature") == "" {
		http.Error(w, "<Error>Only one auth mechanism allowed</Error>", http.StatusBadRequest)
		return
	}
	path := s.contentBySHA256(r.PathValue("sum"))
	if path == "" {
		http.NotFound(w, r)
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(content)
}

// contentBySHA256 returns the path of the file with a revision's content; "" if no revision has the digest.
func (s *Server) contentBySHA256(sum string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.charms {
		for _, r := range c.resources {
			for _, revision := range r.revisions {
				if revision.sums["sha256"] == sum {
					return revision.path
				}
			}
		}
	}
	return ""
}
