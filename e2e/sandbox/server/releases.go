package server

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// risks are those of a channel, from the safest.
var risks = []string{"stable", "candidate", "beta", "edge"}

// The rules for the names of tracks and branches. That for tracks is Charmhub's.
var (
	trackForm  = regexp.MustCompile(`^[a-zA-Z0-9](?:[_.-]?[a-zA-Z0-9])*$`)
	branchForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.+~-]*$`)
)

// branchLife is how long a branch of a channel lasts.
const branchLife = 30 * 24 * time.Hour

// Release is one entry of a charm's channel map.
type Release struct {
	Channel   string // with its track: latest/edge, latest/edge/pr-12
	Base      ReleaseBase
	Revision  int
	Resources map[string]int // revisions by name; those that it goes without are missing
}

// release is a [Release] with its time.
type release struct {
	channel   string
	base      ReleaseBase
	revision  int
	resources map[string]int
	when      time.Time
	closes    bool // in a request: the channel is closed for the base
}

// replaced is a charm's channel map before a release, and the time until which the sandbox goes on showing it.
type replaced struct {
	releases []release
	until    time.Time
}

// Releases returns a charm's channel map, sorted by channel and base. It panics if there is no such charm.
func (s *Server) Releases(charm string) []Release {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Release
	for _, r := range s.mustFindCharm(charm).sorted() {
		all = append(all, Release{Channel: r.channel, Base: r.base, Revision: r.revision, Resources: maps.Clone(r.resources)})
	}
	return all
}

// PutRelease puts an entry into a charm's channel map, in the place of the one for its channel and base, as another
// publisher could do at any time. It panics if there is no such charm, and doesn't check anything else.
func (s *Server) PutRelease(charm string, r Release) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.mustFindCharm(charm)
	c.replaced = nil // the channel map has at once what tests put there
	c.put(release{
		channel: r.Channel, base: r.Base, revision: r.Revision, resources: maps.Clone(r.Resources), when: time.Now(),
	})
}

// mustFindCharm returns the charm, and panics if there is none: the test named a wrong one.
func (s *Server) mustFindCharm(name string) *charm {
	if c := s.charms[name]; c != nil {
		return c
	}
	panic(fmt.Sprintf("the sandbox has no charm %q", name))
}

// replace keeps what is on the charm's channels for the channel map, before it changes.
func (s *Server) replace(c *charm) {
	c.replaced = append(c.replaced, replaced{slices.Clone(c.releases), s.now().Add(s.options.ReleaseLag)})
}

// shown is the charm as the channel map shows it, which may lag behind.
func (s *Server) shown(c *charm) *charm {
	c.replaced = slices.DeleteFunc(c.replaced, func(r replaced) bool { return !r.until.After(s.now()) })
	if len(c.replaced) == 0 {
		return c
	}
	before := *c
	before.releases = c.replaced[0].releases
	return &before
}

// put releases r. It replaces the release on the same channel for the same base.
func (c *charm) put(r release) {
	c.close(r.channel, r.base)
	c.releases = append(c.releases, r)
}

// close removes what is on the channel for the base.
func (c *charm) close(channel string, base ReleaseBase) {
	c.releases = slices.DeleteFunc(c.releases, func(r release) bool { return r.channel == channel && r.base == base })
}

// sorted returns the releases by channel and base.
func (c *charm) sorted() []release {
	return slices.SortedFunc(slices.Values(c.releases), func(a, b release) int {
		return cmp.Or(cmp.Compare(a.channel, b.channel), cmp.Compare(a.base.Name, b.base.Name),
			cmp.Compare(a.base.Channel, b.base.Channel), cmp.Compare(a.base.Architecture, b.base.Architecture))
	})
}

// listReleases is the channel map, with the channels that there are and the revisions that are on them.
func (s *Server) listReleases(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, revisions := []map[string]any{}, []map[string]any{}
	shown := s.shown(c.charm)
	for _, r := range shown.sorted() {
		entry := map[string]any{
			"base": r.base.json(), "channel": r.channel, "revision": r.revision, "resources": shown.attached(r),
			"when": r.when.UTC().Format(time.RFC3339), "expiration-date": nil,
			"progressive": map[string]any{"paused": nil, "percentage": nil},
		}
		if strings.Count(r.channel, "/") == 2 {
			entry["expiration-date"] = r.when.Add(branchLife).UTC().Format(time.RFC3339)
		}
		entries = append(entries, entry)
	}
	for _, r := range shown.revisions {
		if described := shown.describe(r); described["status"] == "released" {
			revisions = append(revisions, described)
		}
	}
	return map[string]any{
		"channel-map": entries, "revisions": revisions, "package": map[string]any{"channels": shown.channels()},
	}, nil
}

// attached lists the resources of an entry: all that its revision declares, with null for those that it goes without.
func (c *charm) attached(r release) []map[string]any {
	declared := c.declared(r.revision)
	listed := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		resource := map[string]any{"name": name, "type": declared[name].typ, "revision": nil}
		if number, ok := r.resources[name]; ok {
			resource["revision"] = number
		}
		listed = append(listed, resource)
	}
	return listed
}

// channels lists those of each track, and a branch once for each base that has an entry on it, as Charmhub does
// (canonical/charmcraft#820).
func (c *charm) channels() []map[string]any {
	listed := []map[string]any{}
	for _, track := range c.tracks {
		var fallback any
		for _, risk := range risks {
			name := track + "/" + risk
			listed = append(listed, map[string]any{"name": name, "track": track, "risk": risk, "branch": nil,
				"fallback": fallback})
			fallback = name
		}
	}
	for _, r := range c.sorted() {
		if parts := strings.Split(r.channel, "/"); len(parts) == 3 {
			listed = append(listed, map[string]any{
				"name": r.channel, "track": parts[0], "risk": parts[1], "branch": parts[2], "fallback": parts[0] + "/" + parts[1],
			})
		}
	}
	return listed
}

// releaseRequest is one entry of a request to release. Revision null closes.
type releaseRequest struct {
	Channel   string       `json:"channel"`
	Revision  *int         `json:"revision"`
	Base      *ReleaseBase `json:"base"`
	Resources []struct {
		Name     string `json:"name"`
		Revision *int   `json:"revision"`
	} `json:"resources"`
}

// release does all that it is asked for or, if anything is wrong, nothing. An entry is for every base of its revision,
// unless it names one. What is not known of Charmhub is strict here: two entries for one place are refused.
func (s *Server) release(c call) (any, error) {
	var requests []releaseRequest
	if err := readJSON(c.Request, &requests); err != nil {
		return nil, err
	}
	if len(requests) == 0 {
		return nil, refuse(http.StatusBadRequest, "api-error", "[] is too short")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var todo []release
	released := []map[string]any{}
	for _, request := range requests {
		entries, err := s.check(c, request)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if !s.options.IgnoreReleaseBase && slices.ContainsFunc(todo,
				func(r release) bool { return r.channel == entry.channel && r.base == entry.base }) {
				return nil, refuse(http.StatusBadRequest, "api-error", "Channel "+entry.channel+" is given twice for one base")
			}
			todo = append(todo, entry)
		}
		answered := map[string]any{"channel": entries[0].channel, "revision": request.Revision,
			"resources": request.Resources}
		if s.options.NullAnswers {
			answered = map[string]any{"channel": nil, "revision": nil, "resources": nil}
		}
		released = append(released, answered)
	}
	s.replace(c.charm)
	for _, entry := range todo {
		if entry.closes {
			c.charm.close(entry.channel, entry.base)
			continue
		}
		c.charm.put(entry)
	}
	return map[string]any{"released": released}, nil
}

// check returns the entries that a request makes.
func (s *Server) check(c call, request releaseRequest) ([]release, error) {
	channel, err := c.charm.channel(request.Channel)
	if err != nil {
		return nil, err
	}
	if c.who.channels != nil && !slices.Contains(c.who.channels, channel) {
		return nil, refuse(http.StatusForbidden, "macaroon-permission-required", "Macaroon is not valid for channel "+channel)
	}
	if request.Base != nil && s.options.NoReleaseBase {
		return nil, refuse(http.StatusBadRequest, "api-error",
			"Additional properties are not allowed ('base' was unexpected)")
	}
	if request.Revision == nil {
		return c.charm.closing(channel)
	}
	revision := c.charm.revision(*request.Revision)
	if revision == nil || revision.state != approvedState {
		return nil, refuse(http.StatusNotFound, "resource-not-found",
			fmt.Sprintf("Revision %d not found for %s", *request.Revision, c.charm.name))
	}
	bases := revision.bases
	if request.Base != nil && !s.options.IgnoreReleaseBase {
		if !slices.Contains(bases, *request.Base) {
			return nil, refuse(http.StatusBadRequest, "api-error",
				fmt.Sprintf("Revision %d is not for base %v", revision.number, *request.Base))
		}
		bases = []ReleaseBase{*request.Base}
	}
	var entries []release
	for _, base := range bases {
		kept := map[string]int{}
		if !s.options.DropOmitted {
			kept = c.charm.on(channel, base).resources
		}
		resources, err := c.charm.bind(revision.number, request, kept)
		if err != nil {
			return nil, err
		}
		entries = append(entries, release{channel: channel, base: base, revision: revision.number, resources: resources,
			when: time.Now()})
	}
	return entries, nil
}

// closing returns the entries that close a channel; an error if nothing is on it.
func (c *charm) closing(channel string) ([]release, error) {
	var entries []release
	for _, r := range c.releases {
		if r.channel == channel {
			entries = append(entries, release{channel: channel, base: r.base, closes: true})
		}
	}
	if len(entries) == 0 {
		return nil, refuse(http.StatusBadRequest, "api-error", "Channel "+channel+" is closed already")
	}
	return entries, nil
}

// channel returns a channel's name with its track, which must exist. The form of the refusal, without a code, is the
// real store's (canonical/charmcraft#785).
func (c *charm) channel(name string) (string, error) {
	parts := strings.Split(name, "/")
	if slices.Contains(risks, parts[0]) {
		parts = append([]string{c.tracks[0]}, parts...)
	}
	if len(parts) < 2 || len(parts) > 3 || !slices.Contains(risks, parts[1]) ||
		len(parts) == 3 && !branchForm.MatchString(parts[2]) {
		return "", refuse(http.StatusBadRequest, "api-error", "Invalid channel: "+name)
	}
	if !slices.Contains(c.tracks, parts[0]) {
		return "", refuse(http.StatusBadRequest, "", "Invalid track: "+parts[0])
	}
	return strings.Join(parts, "/"), nil
}

// on returns the release on a channel for a base, the zero value if there is none.
func (c *charm) on(channel string, base ReleaseBase) release {
	for _, r := range c.releases {
		if r.channel == channel && r.base == base {
			return r
		}
	}
	return release{}
}

// bind returns the resources of a request for a revision of the charm; those that it leaves out are as in kept. A
// resource without any revision has to be given as null, even if it is optional (canonical/charmcraft#850); the texts
// are the real store's.
func (c *charm) bind(number int, request releaseRequest, kept map[string]int) (map[string]int, error) {
	declared, bound, given := c.declared(number), map[string]int{}, map[string]bool{}
	of := fmt.Sprintf("for charm with id '%s' and revision %d", c.id, number)
	var wrong []string
	for _, r := range request.Resources {
		declaration := declared[r.Name]
		switch {
		case given[r.Name]:
			wrong = append(wrong, fmt.Sprintf("Resource '%s' is given twice", r.Name))
		case declaration == nil:
			wrong = append(wrong, fmt.Sprintf("Resource '%s' is not valid %s", r.Name, of))
		case r.Revision == nil && declaration.required:
			wrong = append(wrong, fmt.Sprintf("Resource '%s' doesn't have a released revision %s", r.Name, of))
		case r.Revision != nil && !c.find(r.Name).has(*r.Revision):
			wrong = append(wrong, fmt.Sprintf("Resource '%s' with revision %d does not exist %s", r.Name, *r.Revision, of))
		case r.Revision != nil:
			bound[r.Name] = *r.Revision
		}
		given[r.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if revision, ok := kept[name]; ok && !given[name] {
			bound[name] = revision
			continue
		}
		if !given[name] && (declared[name].required || len(c.find(name).revisions) == 0) {
			wrong = append(wrong, fmt.Sprintf("Resource '%s' doesn't have a released revision %s", name, of))
		}
	}
	if len(wrong) > 0 {
		return nil, refuse(http.StatusBadRequest, "api-error", strings.Join(wrong, "; "))
	}
	return bound, nil
}

// has reports whether the resource has an approved revision of this number.
func (r *resource) has(number int) bool {
	return slices.ContainsFunc(r.revisions, func(known *revision) bool {
		return known.number == number && known.state == approvedState
	})
}

// metadata is what the store knows of a charm besides its releases.
func (s *Server) metadata(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tracks := []map[string]any{}
	for _, name := range c.charm.tracks {
		tracks = append(tracks, map[string]any{
			"name": name, "created-at": "2020-01-02T03:04:05Z", "version-pattern": nil, "automatic-phasing-percentage": nil,
		})
	}
	guardrails := []map[string]any{}
	for _, pattern := range c.charm.guardrails {
		guardrails = append(guardrails, map[string]any{"pattern": pattern, "created-at": "2020-01-02T03:04:05Z"})
	}
	var defaultTrack any
	if c.charm.defaultTrack != "" {
		defaultTrack = c.charm.defaultTrack
	}
	status := "registered"
	if len(c.charm.releases) > 0 {
		status = "published"
	}
	return map[string]any{"metadata": map[string]any{
		"id": c.charm.id, "name": c.charm.name, "type": "charm", "status": status, "private": c.charm.private,
		"store": "ubuntu",
		"publisher": map[string]any{"id": charmID(Publisher), "username": Publisher, "display-name": Publisher,
			"validation": "unproven"},
		"default-track": defaultTrack, "tracks": tracks, "track-guardrails": guardrails,
	}}, nil
}

// createTracks makes all the tracks that it is asked for or, if anything is wrong, none. The texts are the sandbox's
// own.
func (s *Server) createTracks(c call) (any, error) {
	var requests []struct{ Name string }
	if err := readJSON(c.Request, &requests); err != nil {
		return nil, err
	}
	if len(requests) == 0 {
		return nil, refuse(http.StatusBadRequest, "api-error", "[] is too short")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tracks := slices.Clone(c.charm.tracks)
	for _, request := range requests {
		name := request.Name
		allows := func(pattern string) bool { return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(name) }
		switch {
		case len(name) > 28 || !trackForm.MatchString(name):
			return nil, refuse(http.StatusBadRequest, "api-error", "Invalid track: "+name)
		case slices.Contains(tracks, name):
			return nil, refuse(http.StatusConflict, "resource-already-exists", "Track "+name+" already exists")
		case !slices.ContainsFunc(c.charm.guardrails, allows):
			return nil, refuse(http.StatusBadRequest, "api-error", "Track "+name+" does not match any guardrail")
		}
		tracks = append(tracks, name)
	}
	created := len(tracks) - len(c.charm.tracks)
	c.charm.tracks = tracks
	return map[string]any{"num-tracks-created": created}, nil
}

// Tracks returns the names of a charm's tracks, latest first. It panics if there is no such charm.
func (s *Server) Tracks(charm string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mustFindCharm(charm).tracks)
}
