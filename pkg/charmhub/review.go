package charmhub

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// The pace of Await: its first pause, the factor to the next, the longest, and how often it says in the log that it is
// still waiting.
const (
	firstPause   = 100 * time.Millisecond
	pauseGrowth  = 1.5
	longestPause = 10 * time.Second
	reportEvery  = time.Minute
)

// patience is how long Await waits for a review. unknownPatience is how long a status that it doesn't know may last:
// one that stays, such as needs_review, is changed by a person alone.
const (
	patience        = 30 * time.Minute
	unknownPatience = 10 * time.Second
)

// review is one upload on the way to a revision.
type review struct {
	UploadID text `json:"upload-id"`
	Status   text
	Revision *int // may be set before it counts
	Errors   []problem
}

// Reviewed is the revision that content has after its review.
type Reviewed struct {
	Revision int
	Existed  bool // the store rejected the content because the revision had it already
}

// ExistsError says that the store rejected content because a revision has it already, without naming the revision.
type ExistsError struct{ Err error }

// Error returns the store's rejection.
func (e *ExistsError) Error() string { return e.Err.Error() }

// Unwrap returns the store's rejection.
func (e *ExistsError) Unwrap() error { return e.Err }

// Await polls a status URL of [Client.CreateRevision] or [Client.CreateCharmRevision] until the store has decided, and
// returns the revision of the content, also where the store rejected it for being there already; without the revision's
// number, that is an [ExistsError]. It fails with the store's reasons if the content was rejected otherwise, if the
// review stays at a status that it doesn't know, which a person has to change, and after 30 minutes.
func (c *Client) Await(ctx context.Context, statusURL string) (Reviewed, error) {
	r, uploadID, err := c.reviewRequest(statusURL)
	if err != nil {
		return Reviewed{}, err
	}
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last review
	start := time.Now()
	reported, known := start, start
	for pause := firstPause; ; pause = min(time.Duration(float64(pause)*pauseGrowth), longestPause) {
		var answer struct{ Revisions []review }
		err := c.ask(patient, r, &answer)
		if err != nil && patient.Err() == nil {
			return Reviewed{}, err
		}
		if err == nil {
			last = pick(answer.Revisions, uploadID)
			if reviewed, decided, err := last.outcome(uploadID); decided {
				return reviewed, err
			}
		}
		now := time.Now()
		if last.moves() {
			known = now
		}
		if now.Sub(known) >= unknownPatience {
			return Reviewed{}, last.needsPerson(uploadID)
		}
		if now.Sub(reported) >= reportEvery {
			reported = now
			c.config.Logger.Info("Charmhub is still reviewing the upload", zap.String("status", string(last.Status)),
				zap.Duration("after", now.Sub(start).Round(time.Second)), zap.Duration("limit", patience))
		}
		if transport.Sleep(patient, pause) != nil {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return Reviewed{}, fmt.Errorf("stopped waiting for the store's review of the upload%s: %w", last.status(), err)
	}
	return Reviewed{}, fmt.Errorf("the store has not finished its review of the upload%s within %s; it may still "+
		"approve it: run this again later, which picks up the revision, "+
		"or ask Charmhub's team about the upload %s", last.status(), patience, quoted(uploadID))
}

// pick finds the upload that was asked for, or the only one if one side gives no ID. None means that the store has not
// listed it yet.
func pick(list []review, uploadID string) review {
	for _, r := range list {
		unnamed := len(list) == 1 && (r.UploadID == "" || uploadID == "")
		if string(r.UploadID) == uploadID || unnamed {
			return r
		}
	}
	return review{}
}

// duplicate ends the store's reason for the rejection of content that it has.
var duplicate = regexp.MustCompile(`Revision of the existing package is: ([0-9]{1,9})\.?$`)

// outcome returns the revision of the content, or the reasons for which it has none. It is not decided before the
// review is over. The ID names the upload in an error.
func (r review) outcome(uploadID string) (reviewed Reviewed, decided bool, err error) {
	switch {
	case r.Status == "approved" && (r.Revision == nil || *r.Revision < 0):
		return reviewed, true, errors.New("the store approved the upload but gave it no revision number; run this again, " +
			"which looks for the revision")
	case r.Status == "approved":
		return Reviewed{Revision: *r.Revision}, true, nil
	case r.Status != "rejected":
		return reviewed, false, nil
	}
	if len(r.Errors) == 1 && r.Errors[0].Code == "review-error" {
		if existing := duplicate.FindStringSubmatch(string(r.Errors[0].Message)); existing != nil {
			revision, err := strconv.Atoi(existing[1])
			return Reviewed{Revision: revision, Existed: true}, true, err
		}
	}
	code, message := summary(r.Errors)
	advice := "correct what it names, and run this again"
	exists := strings.Contains(message, "already exists")
	if exists {
		advice = "find the revision that has it with `charmcraft resource-revisions` or `charmcraft revisions`"
	}
	switch {
	case message != "" && code != "":
		err = fmt.Errorf("the store rejected the upload: %s (%s); %s", strings.TrimSuffix(message, "."), code, advice)
	case message != "" || code != "":
		err = fmt.Errorf("the store rejected the upload: %s%s; %s", strings.TrimSuffix(message, "."), code, advice)
	default:
		err = fmt.Errorf("the store rejected the upload and gave no reason; run this again, and if it is rejected again, "+
			"ask Charmhub's team about the upload %s", quoted(uploadID))
	}
	if exists {
		err = &ExistsError{err}
	}
	return reviewed, true, err
}

// moves reports whether the review can finish without a person, by its status. The status is "" if the review isn't
// listed yet.
func (r review) moves() bool { return r.Status == "" || r.Status == "new" || r.Status == "scanned" }

// needsPerson says what to do about a review that doesn't go on by itself.
func (r review) needsPerson(uploadID string) error {
	what := "it"
	if r.Revision != nil && *r.Revision >= 0 {
		what = fmt.Sprintf("revision %d", *r.Revision)
	}
	return fmt.Errorf("waiting for the store's review of the upload: it stays at the status %s; somebody at Charmhub "+
		"must decide on %s: "+
		"ask Charmhub's team about the upload %s, and run this again when it is approved, which picks up the revision",
		quoted(string(r.Status)), what, quoted(uploadID))
}

// status returns the review's status in parentheses, to end a sentence; "" if it has none.
func (r review) status() string {
	if r.Status == "" {
		return ""
	}
	return fmt.Sprintf(" (status %s)", quoted(string(r.Status)))
}

// reviewRequest makes the request that statusURL describes, a path with a query, and returns the ID in it. One that
// leads to another host is refused, since the credentials go along.
func (c *Client) reviewRequest(statusURL string) (r request, uploadID string, err error) {
	store, err := url.Parse(c.config.StoreURL)
	if err != nil {
		return r, "", fmt.Errorf("cannot ask for the review of the upload: the store's URL is wrong: %w; correct it", err)
	}
	u, err := url.Parse(statusURL)
	if err != nil || u.Opaque != "" || u.User != nil {
		return r, "", fmt.Errorf("the store's status-url %q is not an address", harmless(statusURL, 200))
	}
	r = request{
		doing: "ask for the review of the upload", permission: viewRevisions,
		path: "/" + strings.TrimPrefix(u.EscapedPath(), "/") + "?" + u.RawQuery,
	}
	if _, path, ok := strings.Cut(u.Path, "/v1/charm/"); ok {
		if name, _, _ := strings.Cut(path, "/"); charm.CheckName(name) == nil {
			r.owner = name
		}
	}
	if u.Scheme != "" || u.Host != "" {
		if r.base = origin(u); r.base != origin(store) {
			return r, "", fmt.Errorf("the store's status-url %q leads away from %s and is not followed",
				harmless(statusURL, 200), store.Host)
		}
	}
	return r, u.Query().Get("upload-id"), nil
}
