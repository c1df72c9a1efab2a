package server

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// architectures are the names that a base can have.
var architectures = []string{"all", "amd64", "arm64", "armhf", "i386", "ppc64el", "riscv64", "s390x"}

// listResources lists every declaration of a resource, oldest first, each with the revision of the charm that makes it;
// or those of the revision in the query. The options may ask for other rows.
func (s *Server) listResources(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := -1
	if query := c.URL.Query(); query.Has("revision") {
		number, err := strconv.ParseUint(query.Get("revision"), 10, 31)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "api-error", "revision is not a number")
		}
		if asked = int(number); c.charm.revision(asked) == nil {
			return nil, refuse(http.StatusNotFound, "resource-not-found",
				fmt.Sprintf("Revision %d not found for %s", asked, c.charm.name))
		}
	}
	listed := []map[string]any{}
	for _, r := range c.charm.resources {
		for _, declared := range append(slices.Clone(r.older), r) {
			if !s.options.Rows.have(declared, asked, c.charm.newest()) {
				continue
			}
			listed = append(listed, map[string]any{
				"name": declared.name, "type": declared.typ, "revision": declared.charmRevision, "optional": !declared.required,
			})
		}
	}
	return map[string]any{"resources": listed}, nil
}

// have reports whether a declaration is among the rows where the query asks for a charm revision, or for none, which is
// -1.
func (r Rows) have(declared *resource, asked, newest int) bool {
	ofAsked := asked < 0 || declared.charmRevision == asked
	ofNewest := declared.charmRevision == newest
	switch r {
	case RowsOfNewest:
		return ofAsked && ofNewest
	case RowsInPart:
		return ofAsked && declared.required
	case RowsOfOthers:
		return ofNewest
	case RowsOfAll:
		return true
	default:
		return ofAsked
	}
}

// newest is the number of the newest charm revision that was approved.
func (c *charm) newest() int {
	number := -1
	for _, r := range c.revisions {
		if r.state == approvedState {
			number = max(number, r.number)
		}
	}
	return number
}

// listRevisions lists the approved revisions, oldest first unless the options ask for the newest. Time passes for
// reviews also when nobody looks at them but at this list.
func (s *Server) listRevisions(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passTime(c.charm, c.resource)
	listed := []map[string]any{}
	for _, revision := range c.resource.revisions {
		switch {
		case revision.state != approvedState || s.now().Before(revision.shown):
		case revision.unseen > 0:
			revision.unseen--
		default:
			listed = append(listed, revision.json(c.resource, s.options.NestedHashes))
		}
	}
	if s.options.NewestFirst {
		slices.Reverse(listed)
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
	for i, update := range request.Updates {
		if byNumber[update.Revision] == nil {
			return nil, refuse(http.StatusNotFound, "resource-not-found", "Revision "+strconv.Itoa(update.Revision)+" not found")
		}
		if len(update.Bases) == 0 {
			return nil, refuse(http.StatusBadRequest, "api-error", "bases is a required property")
		}
		bases, err := s.readBases(update.Bases)
		if err != nil {
			return nil, err
		}
		request.Updates[i].Bases = bases
	}
	for _, update := range request.Updates {
		byNumber[update.Revision].bases = update.Bases
		byNumber[update.Revision].updated = time.Now()
	}
	return map[string]int{"num-resource-revisions-updated": len(request.Updates)}, nil
}

// readBases returns the bases of a request as they are recorded: "all" where nothing is said, and one base of each name
// and channel.
func (s *Server) readBases(given []Base) ([]Base, error) {
	if len(given) == 0 {
		given = []Base{{}}
	}
	var bases []Base
	for _, base := range given {
		base.Name, base.Channel = cmp.Or(base.Name, "all"), cmp.Or(base.Channel, "all")
		if len(base.Architectures) == 0 {
			base.Architectures = []string{"all"}
		}
		for i, architecture := range base.Architectures {
			if !slices.Contains(architectures, architecture) {
				return nil, refuse(http.StatusBadRequest, "api-error", architecture+" is not an architecture")
			}
			if slices.Contains(base.Architectures[:i], architecture) {
				return nil, refuse(http.StatusBadRequest, "api-error", architecture+" is there twice")
			}
		}
		same := func(b Base) bool { return b.Name == base.Name && b.Channel == base.Channel }
		if i := slices.IndexFunc(bases, same); i >= 0 {
			bases[i].Architectures = s.merge(bases[i].Architectures, base.Architectures)
			continue
		}
		bases = append(bases, base)
	}
	return bases, nil
}

// merge returns the architectures of two bases, each once.
func (s *Server) merge(one, other []string) []string {
	merged := slices.Clone(one)
	for _, architecture := range other {
		if !slices.Contains(merged, architecture) {
			merged = append(merged, architecture)
		}
	}
	if s.options.SortedBases {
		slices.Sort(merged)
	}
	return merged
}
