package server

import (
	"net/http"
	"net/url"
	"os"
	"time"
)

// review is the way of one upload to a revision, of a resource or of the charm. Looks are its clock: every question
// about it, or for the list of revisions, moves it on by one, so that tests depend on no real time.
type review struct {
	uploadID string
	charm    *charm
	resource *resource // nil for the charm itself
	number   int       // of the revision
	polls    int
	ended    state  // pendingState until it has
	reject   string // why it ends in a rejection, which it is known to from the start
	// settle is called when the review has ended.
	settle func(state)
}

// createRevision takes an upload for a resource and starts its review. Content that the resource has already, or is
// reviewing, is not stored twice: that review leads to the revision which is there.
func (s *Server) createRevision(c call) (any, error) {
	var request struct {
		UploadID string `json:"upload-id"`
		Type     string `json:"type"`
		Bases    []Base `json:"bases"`
	}
	if err := readJSON(c.Request, &request); err != nil {
		return nil, err
	}
	if request.Type != c.resourceType {
		return nil, refuse(http.StatusBadRequest, "invalid-resource-type",
			"Resource "+c.resource.name+" is of type "+c.resourceType+", not "+request.Type)
	}
	bases, err := s.readBases(request.Bases)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	upload, err := s.take(request.UploadID)
	if err != nil {
		return nil, err
	}
	there := c.resource.same(upload) != nil
	added := c.resource.add(upload, bases, s.options.firstRevision())
	reject := ""
	if there && s.options.RejectDuplicates {
		reject = duplicateOf(upload, added.number, true)
	}
	return s.begins(&review{
		uploadID: request.UploadID, charm: c.charm, resource: c.resource, number: added.number, reject: reject,
		settle: func(ended state) {
			if added.state == pendingState && reject == "" {
				added.state, added.unseen, added.shown = ended, s.options.ListLag, s.now().Add(s.options.Lag)
			}
		},
	}), nil
}

// take hands out the content of an upload, once.
func (s *Server) take(uploadID string) (stored, error) {
	upload := s.uploads[uploadID]
	if upload == nil {
		return stored{}, refuse(http.StatusBadRequest, "upload-not-found", "No upload has the ID "+uploadID)
	}
	if upload.used {
		return stored{}, refuse(http.StatusConflict, "upload-already-used", "The upload "+uploadID+" was used before")
	}
	upload.used = true
	return upload.stored, nil
}

// begins files a review and returns the answer that says where to ask for it.
func (s *Server) begins(r *review) map[string]string {
	s.reviews[r.uploadID] = r
	query := url.Values{"upload-id": {r.uploadID}}
	return map[string]string{"status-url": "/v1/charm/" + r.charm.name + "/revisions/review?" + query.Encode()}
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

// reviewStatus answers with the status of a review, which goes on each time that it is asked for.
func (s *Server) reviewStatus(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	review := s.reviews[c.URL.Query().Get("upload-id")]
	if review == nil || review.charm != c.charm {
		return nil, refuse(http.StatusNotFound, "resource-not-found", "No review for this upload")
	}
	if review.resource == nil {
		s.passTime(review.charm, nil) // a duplicate is rejected for a revision that may be in review itself
	} else {
		s.advanceReview(review)
	}
	return map[string]any{"revisions": []any{s.describe(review)}}, nil
}

// passTime counts a poll of every open review of a charm's resource, or of the charm itself if r is nil.
func (s *Server) passTime(c *charm, r *resource) {
	for _, review := range s.reviews {
		if review.charm == c && review.resource == r && review.ended == pendingState {
			s.advanceReview(review)
		}
	}
}

// advanceReview counts a poll of the review, and ends the review when its delay is over. The caller holds s.mu.
func (s *Server) advanceReview(r *review) {
	r.polls++
	if r.ended != pendingState || s.options.NeverReview || r.polls <= s.options.ReviewDelay {
		return
	}
	r.ended = approvedState
	if s.options.RejectReason != "" || r.reject != "" {
		r.ended = rejectedState
	}
	r.settle(r.ended)
}

// describe is the review as the store tells it. A revision's number shows before it is approved, and means nothing
// until then.
func (s *Server) describe(r *review) map[string]any {
	statuses := s.options.Statuses
	item := map[string]any{"upload-id": r.uploadID, "status": statuses[min(max(r.polls, 1), len(statuses))-1],
		"revision": nil, "errors": nil}
	switch {
	case r.ended == approvedState:
		item["status"], item["revision"] = "approved", r.number
	case r.ended == rejectedState && r.reject != "":
		item["status"] = "rejected"
		item["errors"] = []map[string]string{{"code": "review-error", "message": r.reject}}
	case r.ended == rejectedState:
		item["status"] = "rejected"
		item["errors"] = []map[string]string{{"code": "review-rejected", "message": s.options.RejectReason}}
	case r.polls > 1 && r.reject == "":
		item["revision"] = r.number
	}
	return item
}
