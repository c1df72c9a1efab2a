package server

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// charm is a charm as the store keeps it, under the Server's lock.
type charm struct {
	id           string
	name         string
	tracks       []string // latest first
	defaultTrack string   // empty for latest
	guardrails   []string
	resources    []*resource
	revisions    []*charmRevision // by number
	releases     []release        // one for each channel and base
	replaced     []replaced       // what releases were before, as long as the channel map shows it, oldest first
	private      bool             // to those who don't say who they are
	readPassword string           // with which deployments pull the charm's images
	readPeriod   int64            // of Options.TextPeriod, in which the password was made
}

// resource is a resource of a charm, with its revisions.
type resource struct {
	name          string
	typ           string
	charmRevision int // which declares it as this type
	required      bool
	older         []*resource // declarations of the name by older revisions of the charm
	revisions     []*revision
}

// newCharms returns the declared charms by name, without revisions.
func newCharms(declared []Charm) map[string]*charm {
	charms := map[string]*charm{}
	for _, d := range declared {
		c := &charm{id: charmID(d.Name), name: d.Name, tracks: append([]string{"latest"}, d.Tracks...),
			defaultTrack: d.DefaultTrack, guardrails: d.Guardrails, private: d.Private}
		for _, r := range d.Resources {
			number := max(1, r.CharmRevision)
			if c.revision(number) == nil {
				c.revisions = append(c.revisions, &charmRevision{
					number: number, state: approvedState, bases: []ReleaseBase{defaultBase}, created: time.Now(),
				})
			}
			c.declare(&resource{name: r.Name, typ: r.Type, charmRevision: number, required: !r.Optional})
		}
		slices.SortFunc(c.revisions, func(a, b *charmRevision) int { return a.number - b.number })
		charms[d.Name] = c
	}
	return charms
}

// declare adds a resource, or another declaration of one that is known: that of the newest revision of the charm is the
// resource.
func (c *charm) declare(r *resource) {
	known := c.find(r.name)
	if known == nil {
		c.resources = append(c.resources, r)
		return
	}
	if r.charmRevision > known.charmRevision {
		known.typ, r.typ = r.typ, known.typ
		known.charmRevision, r.charmRevision = r.charmRevision, known.charmRevision
		known.required, r.required = r.required, known.required
	}
	known.older = append(known.older, r)
}

// charmID is the same for a name in every sandbox, so that runs can be compared. It has 36 or 37 characters.
func charmID(name string) string {
	sum := sha256.Sum256([]byte(name))
	text := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	return text[:36+sum[0]%2]
}

// find returns a charm's resource; nil if there is none.
func (c *charm) find(name string) *resource {
	for _, r := range c.resources {
		if r.name == name {
			return r
		}
	}
	return nil
}

// declared are the resources that one revision of the charm declares, by name.
func (c *charm) declared(number int) map[string]*resource {
	found := map[string]*resource{}
	for _, r := range c.resources {
		for _, declaration := range append(slices.Clone(r.older), r) {
			if declaration.charmRevision == number {
				found[r.name] = declaration
			}
		}
	}
	return found
}

// repository is the name of a resource's repository in the registry.
func (c *charm) repository(resource string) string {
	return "charm/" + c.id + "/" + resource
}

// imageName is the repository with the registry's host.
func (s *Server) imageName(c *charm, resource string) string {
	return strings.TrimPrefix(s.RegistryURL, "http://") + "/" + c.repository(resource)
}

// mustFind is for the calls of tests, where an unknown name is a mistake in the test.
func (s *Server) mustFind(charmName, resourceName string) (*charm, *resource) {
	if c := s.charms[charmName]; c != nil {
		if r := c.find(resourceName); r != nil {
			return c, r
		}
	}
	panic(fmt.Sprintf("the sandbox has no resource %q of charm %q", resourceName, charmName))
}

// unknownCharm returns the store's refusal of a charm that it doesn't have.
func unknownCharm(name string) error {
	return refuse(http.StatusNotFound, "resource-not-found", "Name "+name+" not found in the charm namespace")
}

// unknownResource returns the store's refusal of a resource that the charm doesn't declare.
func unknownResource(charm, name string) error {
	return refuse(http.StatusNotFound, "resource-not-found", "Resource "+name+" not found for charm "+charm)
}
