package server

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Base is what a revision is for. Architectures are Debian's names or "all".
type Base struct {
	Name          string   `json:"name"`
	Channel       string   `json:"channel"`
	Architectures []string `json:"architectures"`
}

// Revision is an approved revision of a resource.
type Revision struct {
	Number int
	Type   string
	Bases  []Base
	Size   int64
	SHA256 string // in hex
	path   string
}

// Content returns the revision's bytes: the file, or the text for an image.
func (r Revision) Content() ([]byte, error) { return os.ReadFile(r.path) }

// Architectures returns those of all bases, sorted.
func (r Revision) Architectures() []string {
	var all []string
	for _, base := range r.Bases {
		all = append(all, base.Architectures...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Revisions returns the approved revisions of a resource, oldest first, also those that lists are still missing. It
// panics if there is no such resource.
func (s *Server) Revisions(charm, resource string) []Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, r := s.mustFind(charm, resource)
	var approved []Revision
	for _, revision := range r.revisions {
		if revision.state == approvedState {
			approved = append(approved, Revision{
				Number: revision.number, Type: r.typ, Bases: slices.Clone(revision.bases),
				Size: revision.size, SHA256: revision.sums["sha256"], path: revision.path,
			})
		}
	}
	return approved
}

// PutResource makes content a revision of a resource for every architecture, without any upload or review, and returns
// its number. It panics if there is no such resource.
func (s *Server) PutResource(charm, resource string, content io.Reader) int {
	kept, err := store(filepath.Join(s.dir, "uploads", randomText()), content)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, r := s.mustFind(charm, resource)
	added := r.add(kept, []Base{{Name: "all", Channel: "all", Architectures: []string{"all"}}}, s.options.firstRevision())
	added.state = approvedState
	return added.number
}

// state is the result of a revision's review.
type state int

// The results of a review.
const (
	pendingState state = iota
	approvedState
	rejectedState
)

// revision is a revision from the moment that its upload was handed in.
type revision struct {
	stored
	number  int
	state   state
	unseen  int       // calls for the list that will still miss it
	shown   time.Time // when lists have it, by the sandbox's clock
	bases   []Base
	created time.Time
	updated time.Time
}

// same returns the resource's revision with this content that wasn't rejected; nil if there is none.
func (r *resource) same(content stored) *revision {
	for _, revision := range r.revisions {
		if revision.state != rejectedState && revision.sums["sha256"] == content.sums["sha256"] {
			return revision
		}
	}
	return nil
}

// json is the revision as the list has it.
func (r *revision) json(of *resource, nested bool) map[string]any {
	listed := map[string]any{
		"revision": r.number, "name": of.name, "type": of.typ, "bases": r.bases,
		"created-at": r.created.UTC().Format(time.RFC3339), "updated-at": r.updated.UTC().Format(time.RFC3339),
		"updated-by": Publisher,
	}
	if nested {
		listed["download"] = map[string]any{
			"url": "", "size": r.size, "hash-sha-256": r.sums["sha256"], "hash-sha-384": r.sums["sha384"],
			"hash-sha-512": r.sums["sha512"], "hash-sha3-384": r.sums["sha3-384"],
		}
		return listed
	}
	listed["size"] = r.size
	for name, sum := range r.sums {
		listed[name] = sum
	}
	return listed
}
