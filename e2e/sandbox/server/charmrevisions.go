package server

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ReleaseBase is what a revision of a charm runs on: unlike a resource's, it has one architecture. The zero value is
// the null that Charmhub gives to what has no base.
type ReleaseBase struct {
	Name         string `json:"name"`
	Channel      string `json:"channel"`
	Architecture string `json:"architecture"`
}

// defaultBase is that of the charm's revisions which the options imply.
var defaultBase = ReleaseBase{Name: "ubuntu", Channel: "24.04", Architecture: "amd64"}

// json returns the base as the store lists it; nil for none.
func (b ReleaseBase) json() any {
	if b == (ReleaseBase{}) {
		return nil
	}
	return b
}

// CharmRevision is an approved revision of a charm.
type CharmRevision struct {
	Number int
	Bases  []ReleaseBase
	SHA3   string // SHA3-384 of the charm file in hex; empty for one that the options imply
}

// CharmRevisions returns the approved revisions of a charm, oldest first, also those that lists are still missing. It
// panics if there is no such charm.
func (s *Server) CharmRevisions(charm string) []CharmRevision {
	s.mu.Lock()
	defer s.mu.Unlock()
	var approved []CharmRevision
	for _, r := range s.mustFindCharm(charm).revisions {
		if r.state == approvedState {
			approved = append(approved, CharmRevision{Number: r.number, Bases: slices.Clone(r.bases), SHA3: r.sums["sha3-384"]})
		}
	}
	return approved
}

// PutCharm makes a charm file a revision of the charm, without any upload or review, and returns its number. It panics
// if the charm or its file is none.
func (s *Server) PutCharm(charm string, file io.Reader) int {
	content, err := store(filepath.Join(s.dir, "uploads", randomText()), file)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	review := s.reviewCharm(s.mustFindCharm(charm), content)
	if review.reject != "" {
		panic(review.reject)
	}
	review.settle(approvedState)
	if put := s.mustFindCharm(charm).revision(review.number); put != nil {
		put.unseen, put.shown = 0, time.Time{}
	}
	return review.number
}

// charmRevision is a revision from the moment that its upload was handed in.
type charmRevision struct {
	stored
	number  int
	state   state
	unseen  int       // calls for the list that will still miss it
	shown   time.Time // when lists have it, by the sandbox's clock
	version string
	bases   []ReleaseBase
	created time.Time
	errors  []map[string]string // why it was rejected
}

// revision returns a revision that wasn't rejected; nil if there is none.
func (c *charm) revision(number int) *charmRevision {
	for _, r := range c.revisions {
		if r.number == number && r.state != rejectedState {
			return r
		}
	}
	return nil
}

// createCharmRevision takes an upload for the charm and starts its review.
func (s *Server) createCharmRevision(c call) (any, error) {
	var request struct {
		UploadID string `json:"upload-id"`
	}
	if err := readJSON(c.Request, &request); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	content, err := s.take(request.UploadID)
	if err != nil {
		return nil, err
	}
	review := s.reviewCharm(c.charm, content)
	review.uploadID = request.UploadID
	return s.begins(review), nil
}

// reviewCharm returns the review of a charm file, which knows how it will end. A file that the charm has already, or is
// reviewing, is rejected, by the words of the real store.
func (s *Server) reviewCharm(c *charm, content stored) *review {
	for _, r := range c.revisions {
		if r.state != rejectedState && r.sums["sha3-384"] == content.sums["sha3-384"] {
			_ = os.Remove(content.path)
			return &review{charm: c, settle: func(state) {},
				reject: duplicateOf(content, r.number, !s.options.UnnumberedDuplicates)}
		}
	}
	number := s.options.firstRevision()
	for _, r := range c.revisions {
		number = max(number, r.number+1)
	}
	added := &charmRevision{stored: content, number: number, version: fmt.Sprint(number), created: time.Now()}
	c.revisions = append(c.revisions, added)
	file, err := openCharm(content.path)
	if err == nil && file.name != c.name {
		err = fmt.Errorf("the charm's name is '%s', not '%s'", file.name, c.name)
	}
	added.bases = file.bases
	result := &review{charm: c, number: number, settle: func(ended state) {
		added.state, added.unseen, added.shown = ended, s.options.ListLag, s.now().Add(s.options.Lag)
		if ended == rejectedState {
			added.errors = []map[string]string{{"code": "review-error", "message": "Rejected"}}
			return
		}
		for _, name := range slices.Sorted(maps.Keys(file.resources)) {
			r := file.resources[name]
			c.declare(&resource{name: name, typ: r.Type, required: !r.Optional, charmRevision: number})
		}
	}}
	if err != nil {
		result.reject = err.Error()
	}
	return result
}

// duplicateOf is why content is rejected that a revision has, with the revision's number or, as in 2022, without it.
func duplicateOf(content stored, revision int, numbered bool) string {
	if !numbered {
		return fmt.Sprintf("An upload with that digest (SHA3-384: %s) already exists in the database.",
			content.sums["sha3-384"])
	}
	return fmt.Sprintf("Cannot insert package. An upload with that digest (SHA3-384: '%s') already exists in the "+
		"database. "+
		"Revision of the existing package is: %d", content.sums["sha3-384"], revision)
}

// charmFile is what a charm file says of itself.
type charmFile struct {
	name      string
	resources map[string]declaration
	bases     []ReleaseBase
}

// declaration is how a charm's metadata declares a resource.
type declaration struct {
	Type     string
	Optional bool
}

// openCharm reads a charm file with metadata.yaml and manifest.yaml.
func openCharm(path string) (c charmFile, err error) {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return c, fmt.Errorf("the file is not a zip archive: %w", err)
	}
	defer func() { _ = archive.Close() }()
	var metadata struct {
		Name      string
		Resources map[string]declaration
	}
	var manifest struct{ Bases []Base }
	for name, into := range map[string]any{"metadata.yaml": &metadata, "manifest.yaml": &manifest} {
		file, err := archive.Open(name)
		if err != nil {
			return c, err
		}
		text, err := io.ReadAll(io.LimitReader(file, maxJSON))
		_ = file.Close()
		if err == nil {
			err = yaml.Unmarshal(text, into)
		}
		if err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
	}
	c.name, c.resources = metadata.Name, metadata.Resources
	for _, base := range manifest.Bases {
		for _, architecture := range base.Architectures {
			c.bases = append(c.bases, ReleaseBase{Name: base.Name, Channel: base.Channel, Architecture: architecture})
		}
	}
	if len(c.bases) == 0 {
		return c, errors.New("manifest.yaml has no bases")
	}
	return c, nil
}

// listCharmRevisions lists all revisions whose review has ended, newest first, those that were rejected among them.
func (s *Server) listCharmRevisions(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passTime(c.charm, nil)
	listed := []map[string]any{}
	for _, r := range slices.Backward(c.charm.revisions) {
		switch {
		case r.state == pendingState || s.now().Before(r.shown):
		case r.unseen > 0:
			r.unseen--
		default:
			listed = append(listed, c.charm.describe(r))
		}
	}
	return map[string]any{"revisions": listed}, nil
}

// describe is a revision as the lists have it.
func (c *charm) describe(r *charmRevision) map[string]any {
	status := "approved"
	switch {
	case r.state == rejectedState:
		status = "rejected"
	case slices.ContainsFunc(c.releases, func(on release) bool { return on.revision == r.number }):
		status = "released"
	}
	bases := []any{}
	for _, base := range r.bases {
		bases = append(bases, base.json())
	}
	sum := r.sums["sha3-384"]
	if sum == "" { // implied by the options: no file has this sum
		sum = strings.Repeat("0", 96)
	}
	return map[string]any{
		"revision": r.number, "version": r.version, "created-at": r.created.UTC().Format(time.RFC3339),
		"status": status, "size": r.size, "sha3-384": sum, "bases": bases, "errors": r.errors,
	}
}
