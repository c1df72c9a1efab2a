package server

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// The types of resource that a charm can declare.
const (
	TypeImage = "oci-image"
	TypeFile  = "file"
)

// Charm is a charm that the sandbox knows, owned by its publisher. One without resources is a name that was registered,
// without any revision.
type Charm struct {
	Name      string
	Resources []Resource
	Tracks    []string // beside latest
	// DefaultTrack is the track of a channel without one; default latest.
	DefaultTrack string
	// Guardrails are regular expressions, one of which must match the name of a track that the publisher makes; none for a
	// charm whose publisher may make no track.
	Guardrails []string
	// Private hides the charm from those who don't say who they are, such as Juju.
	Private bool
}

// Resource is a resource that a revision of a charm declares.
type Resource struct {
	Name string
	Type string // TypeImage or TypeFile
	// CharmRevision is the charm's revision that declares it; default 1. Several may declare one name, each with its own
	// type: the newest counts, and they share the resource's revisions.
	CharmRevision int
	// Optional says that the charm can be released without it.
	Optional bool
}

// Rows says which rows a charm's list of resources has. What a row says of the charm revision, and of the type, is true
// in all.
type Rows string

// The rows that are known of servers, or can't be ruled out.
const (
	RowsOfRevision Rows = "revision" // what the revision in the query declares, else what each revision does
	RowsOfNewest   Rows = "newest"   // what the charm's newest revision declares, or nothing where the query has another
	RowsInPart     Rows = "partial"  // those of RowsOfRevision, but for resources that the charm can be released without
	RowsOfOthers   Rows = "others"   // what the newest revision declares, whatever the query has
	RowsOfAll      Rows = "all"      // what each revision declares, whatever the query has
)

// allRows lists the valid values of Options.Rows.
var allRows = []Rows{RowsOfRevision, RowsOfNewest, RowsInPart, RowsOfOthers, RowsOfAll}

// Options say what a sandbox holds and how it behaves. The zero value is an empty Charmhub on free ports of 127.0.0.1,
// which behaves as far as is known as Charmhub does. Options that make it differ from that can be combined.
type Options struct {
	// Addr is the address of the store, on 127.0.0.1; default 127.0.0.1:0. With a fixed port, the storage, registry,
	// sign-on and token servers take the ports after it, else each takes a free one.
	Addr string
	// Charms are the charms of the publisher.
	Charms []Charm
	// SeparateTokenService gives the registry's token service a server of its own, which answers GET alone, and has the
	// registry's host for the name of its service. Else it is a path of the store's server, which answers GET and POST,
	// and its service is the registry's URL.
	SeparateTokenService bool
	// SameRegistryUser gives the credentials for uploads the user name that is in the texts for images.
	SameRegistryUser bool
	// SpacedJSON writes answers and the texts for images with spaces, and without a line break at their end. Else they are
	// compact, and end with one. Keys are sorted in both.
	SpacedJSON bool
	// TokenLife is how long a registry's bearer token lasts, in whole seconds; default 5 minutes.
	TokenLife time.Duration
	// Statuses are what reviews show before they end, one for each look; default new, scanned. The number of a revision is
	// there from the second on.
	Statuses []string
	// ReviewDelay is how many looks at a review, or at the list of revisions, pass before it ends; default one for each of
	// the statuses, of which the last lasts for the rest.
	ReviewDelay int
	// NeverReview keeps every review from ending: it stays at the last of the statuses.
	NeverReview bool
	// RejectReason, when set, ends every review in a rejection that says it.
	RejectReason string
	// RejectDuplicates ends the review of content that a resource has already as that of a charm file ends: in a rejection
	// that names the revision. Else it is approved.
	RejectDuplicates bool
	// UnnumberedDuplicates names no revision where it rejects a charm file that the charm has already.
	UnnumberedDuplicates bool
	// ListLag is how many calls for the list of revisions miss a revision after its approval.
	ListLag int
	// Lag is how long lists miss a revision after its approval, by the clock and [Server.AdvanceClock].
	Lag time.Duration
	// ReleaseLag is how long the channel map shows what was on the channels before a release, by the clock and
	// [Server.AdvanceClock].
	ReleaseLag time.Duration
	// NewestFirst lists the revisions of a resource from the newest to the oldest; else it is the other way.
	NewestFirst bool
	// SortedBases sorts the architectures of bases of one name that it merges into one; else they are in the order of the
	// request.
	SortedBases bool
	// Rows are the rows that a charm's list of resources has; default RowsOfRevision.
	Rows Rows
	// OutdatedToken makes [Server.Token] one that the store takes no longer, as Charmhub takes none of charmcraft before
	// 4.4.
	OutdatedToken bool
	// Timeouts answers 504 to an upload and to a request for a revision that were taken: the first, the fourth, and so on.
	Timeouts bool
	// Outages lets the registry and its token service fail in passing: each seventh request is answered 500, 503, or, by
	// the registry, as if its token were for something else.
	Outages bool
	// NullAnswers answers a release with entries whose fields are null.
	NullAnswers bool
	// DropOmitted drops the resources that a release leaves out; else they stay as they are on the channel.
	DropOmitted bool
	// NoReleaseBase refuses a release that names a base, which no client of Charmhub's publishers sends.
	NoReleaseBase bool
	// IgnoreReleaseBase releases for all bases of a revision, also where an entry of the request names one of them.
	IgnoreReleaseBase bool
	// FromZero numbers revisions from 0, which Charmhub has done for resources; else from 1.
	FromZero bool
	// UnstableBlobs makes each text for an image differ from the one before.
	UnstableBlobs bool
	// TextPeriod is how long the password in the text for an image stays the same, by the clock and [Server.AdvanceClock];
	// zero for ever. A password works on when another has followed it.
	TextPeriod time.Duration
	// NestedHashes lists a revision's hashes under "download", as compatible servers do.
	NestedHashes bool
	// Registry is the path of a distribution binary, such as Debian's docker-registry, to run as the registry; default is
	// distribution 3 within this process.
	Registry string
	// InMemory keeps the data of the registry within this process in memory; else it is in a temporary folder until Close.
	// In memory, a broken upload that resumes before the registry saw it break ends up wrong: use files where uploads
	// break.
	InMemory bool
	// Behind, when set, is called with the name of each server (see Request.Server, without "auth" where the store has it)
	// and its address before anybody can call it, and returns the address under which clients are to find it: that of a
	// proxy in front of it. One that ends TLS is given with its scheme, and can't be before the registry.
	Behind func(server, addr string) (string, error)
	// Log, when set, is given one line for each request as it ends.
	Log func(line string)
}

// withDefaults returns the options with every default filled in, or an error about the first charm or resource that
// can't exist.
func (o Options) withDefaults() (Options, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.TokenLife == 0 {
		o.TokenLife = 5 * time.Minute
	}
	if len(o.Statuses) == 0 {
		o.Statuses = []string{"new", "scanned"}
	}
	if o.ReviewDelay == 0 {
		o.ReviewDelay = len(o.Statuses)
	}
	if o.Rows == "" {
		o.Rows = RowsOfRevision
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	return o, o.check()
}

// firstRevision is the number of the first revision of a resource or a charm.
func (o Options) firstRevision() int {
	if o.FromZero {
		return 0
	}
	return 1
}

// check returns an error for options that contradict each other, or are unknown.
func (o Options) check() error {
	if !slices.Contains(allRows, o.Rows) {
		return fmt.Errorf("there are no rows %q of a list of resources, but %v", o.Rows, allRows)
	}
	for _, c := range o.Charms {
		if c.Name == "" {
			return fmt.Errorf("a charm of the sandbox has no name")
		}
		for _, track := range c.Tracks {
			if !trackForm.MatchString(track) {
				return fmt.Errorf("charm %q can't have a track %q", c.Name, track)
			}
		}
		for _, pattern := range c.Guardrails {
			if _, err := regexp.Compile(pattern); err != nil {
				return fmt.Errorf("charm %q can't have a guardrail %q: %w", c.Name, pattern, err)
			}
		}
		if c.DefaultTrack != "" && !slices.Contains(c.Tracks, c.DefaultTrack) {
			return fmt.Errorf("charm %q has no track %q, which is to be its default", c.Name, c.DefaultTrack)
		}
		for _, r := range c.Resources {
			if r.Name == "" || (r.Type != TypeImage && r.Type != TypeFile) {
				return fmt.Errorf("resource %q of charm %q has type %q: it needs a name, and type %s or %s",
					r.Name, c.Name, r.Type, TypeImage, TypeFile)
			}
		}
	}
	return nil
}
