package server

import (
	"net/http"
	"net/url"
	"os"
	"time"
)

// review is the way of one upload to a revision. Looks are its clock: every
// question about it, or for the list of revisions, moves it on by one, so
// that tests depend on no real time.
type review struct {
	uploadID string
	charm    *charm
	resource *resource
	revision *revision
	looks    int
	ended    state // pendingState until it has
}

// createRevision takes an upload for a resource and starts its review.
// Content that the resource has already, or is reviewing, is not stored twice:
// that review leads to the revision which is there.
func (s *Server) createRevision(c call) (any, error) {
	var request struct {
		UploadID string `json:"upload-id"`
		Type     string `json:"type"`
		Bases    []Base `json:"bases"`
	}
	if err := readJSON(c.Request, &request); err != nil {
		return nil, err
	}
	if request.Type != c.resource.typ {
		return nil, refuse(http.StatusBadRequest, "invalid-resource-type",
			"Resource "+c.resource.name+" is of type "+c.resource.typ+", not "+request.Type)
	}
	bases, err := readBases(request.Bases)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	upload := s.uploads[request.UploadID]
	if upload == nil {
		return nil, refuse(http.StatusBadRequest, "upload-not-found", "No upload has the ID "+request.UploadID)
	}
	if upload.used {
		return nil, refuse(http.StatusConflict, "upload-already-used", "The upload "+request.UploadID+" was used before")
	}
	upload.used = true
	s.reviews[request.UploadID] = &review{
		uploadID: request.UploadID, charm: c.charm, resource: c.resource,
		revision: c.resource.add(upload.stored, bases, s.options.firstRevision()),
	}
	query := url.Values{"upload-id": {request.UploadID}}
	return map[string]string{"status-url": "/v1/charm/" + c.charm.name + "/revisions/review?" + query.Encode()}, nil
}

// add returns the revision that has this content, new or not.
func (r *resource) add(content stored, bases []Base, first int) *revision {
	if same := r.same(content); same != nil {
		_ = os.Remove(content.path)
		return same
	}
	now := time.Now()
	added := &revision{stored: content, number: first + len(r.revisions), bases: bases, created: now, updated: now}
	r.revisions = append(r.revisions, added)
	return added
}

func (s *Server) reviewStatus(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	review := s.reviews[c.URL.Query().Get("upload-id")]
	if review == nil || review.charm != c.charm {
		return nil, refuse(http.StatusNotFound, "resource-not-found", "No review for this upload")
	}
	s.look(review)
	return map[string]any{"revisions": []any{s.describe(review)}}, nil
}

// passTime is a look at every open review of a resource.
func (s *Server) passTime(r *resource) {
	for _, review := range s.reviews {
		if review.resource == r && review.ended == pendingState {
			s.look(review)
		}
	}
}

func (s *Server) look(r *review) {
	r.looks++
	if r.ended != pendingState || s.options.NeverReview || r.looks <= s.options.ReviewDelay {
		return
	}
	r.ended = approvedState
	if s.options.RejectReason != "" {
		r.ended = rejectedState
	}
	if r.revision.state == pendingState {
		r.revision.state = r.ended
		r.revision.unseen = s.options.ListLag
	}
}

// describe is the review as the store tells it. A revision's number shows
// before it is approved, and means nothing until then.
func (s *Server) describe(r *review) map[string]any {
	told := map[string]any{"upload-id": r.uploadID, "status": "new", "revision": nil, "errors": nil}
	switch {
	case r.ended == approvedState:
		told["status"], told["revision"] = "approved", r.revision.number
	case r.ended == rejectedState:
		told["status"] = "rejected"
		told["errors"] = []map[string]string{{"code": "review-rejected", "message": s.options.RejectReason}}
	case r.looks > 1:
		told["status"], told["revision"] = "scanned", r.revision.number
	}
	return told
}
