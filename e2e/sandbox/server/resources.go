package server

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// architectures are the names that a base can have.
var architectures = []string{"all", "amd64", "arm64", "armhf", "i386", "ppc64el", "riscv64", "s390x"}

func (s *Server) listResources(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	listed := []map[string]any{}
	for _, r := range c.charm.resources {
		newest := 0
		for _, revision := range r.revisions {
			if revision.state == approvedState {
				newest = revision.number
			}
		}
		listed = append(listed, map[string]any{"name": r.name, "type": r.typ, "revision": newest, "optional": true})
	}
	return map[string]any{"resources": listed}, nil
}

// listRevisions lists the approved revisions, newest first. Time passes for
// reviews also when nobody looks at them but at this list.
func (s *Server) listRevisions(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passTime(c.resource)
	listed := []map[string]any{}
	for _, revision := range slices.Backward(c.resource.revisions) {
		switch {
		case revision.state != approvedState:
		case revision.unseen > 0:
			revision.unseen--
		default:
			listed = append(listed, revision.json(c.resource, s.options.NestedHashes))
		}
	}
	return map[string]any{"revisions": listed}, nil
}

// updateRevisions changes the bases of revisions: all that are named, or none.
func (s *Server) updateRevisions(c call) (any, error) {
	var request struct {
		Updates []struct {
			Revision int    `json:"revision"`
			Bases    []Base `json:"bases"`
		} `json:"resource-revision-updates"`
	}
	if err := readJSON(c.Request, &request); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	byNumber := map[int]*revision{}
	for _, revision := range c.resource.revisions {
		if revision.state == approvedState {
			byNumber[revision.number] = revision
		}
	}
	for _, update := range request.Updates {
		if byNumber[update.Revision] == nil {
			return nil, refuse(http.StatusNotFound, "resource-not-found", "Revision "+strconv.Itoa(update.Revision)+" not found")
		}
		if err := checkBases(update.Bases); err != nil {
			return nil, err
		}
	}
	for _, update := range request.Updates {
		byNumber[update.Revision].bases = update.Bases
		byNumber[update.Revision].updated = time.Now()
	}
	return map[string]int{"num-resource-revisions-updated": len(request.Updates)}, nil
}

func checkBases(bases []Base) error {
	if len(bases) == 0 {
		return refuse(http.StatusBadRequest, "api-error", "bases is a required property")
	}
	for _, base := range bases {
		if base.Name == "" || base.Channel == "" || len(base.Architectures) == 0 {
			return refuse(http.StatusBadRequest, "api-error", "a base needs name, channel and architectures")
		}
		for _, architecture := range base.Architectures {
			if !slices.Contains(architectures, architecture) {
				return refuse(http.StatusBadRequest, "api-error", architecture+" is not an architecture")
			}
		}
	}
	return nil
}
