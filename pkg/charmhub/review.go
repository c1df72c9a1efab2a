package charmhub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The pace of Await: its first pause, the factor to the next, the longest, and
// how often it says in the log that it is still waiting.
const (
	firstPause   = 200 * time.Millisecond
	pauseGrowth  = 1.5
	longestPause = 10 * time.Second
	reportEvery  = time.Minute
)

// review is one upload on the way to a revision.
type review struct {
	UploadID text `json:"upload-id"`
	Status   text
	Revision *int // may be set before it counts
	Errors   []problem
}

// Await polls a status URL of [Client.CreateRevision] until the store has decided,
// and returns the revision's number. It fails with the store's reasons if the
// content was rejected, and when Config.Patience is over.
func (c *Client) Await(ctx context.Context, statusURL string) (int, error) {
	w, err := c.newWait(statusURL)
	if err != nil {
		return 0, err
	}
	patient, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	for pause := firstPause; ; pause = min(time.Duration(float64(pause)*pauseGrowth), longestPause) {
		revision, approved, err := w.poll(patient)
		if approved || err != nil && patient.Err() == nil {
			return revision, err
		}
		w.report()
		select {
		case <-patient.Done():
			return 0, w.gaveUp(ctx)
		case <-time.After(pause):
		}
	}
}

// wait is the state of one Await.
type wait struct {
	client   *Client
	request  request
	uploadID string
	start    time.Time
	minutes  int // that the log knows of
	last     review
}

// poll asks once, and tells whether the store approved the upload and as what.
func (w *wait) poll(ctx context.Context) (revision int, approved bool, err error) {
	var answer struct{ Revisions []review }
	if err := w.client.ask(ctx, w.request, &answer); err != nil {
		return 0, false, err
	}
	w.last = pick(answer.Revisions, w.uploadID)
	switch {
	case w.last.Status == "rejected":
		return 0, false, w.last.rejected()
	case w.last.Status != "approved":
		return 0, false, nil
	case w.last.Revision == nil || *w.last.Revision < 0:
		return 0, false, errors.New("the store approved the upload but gave it no revision number")
	}
	return *w.last.Revision, true, nil
}

// pick finds the upload that was asked for, or the only one if one side gives no
// ID. None means that the store has not listed it yet.
func pick(list []review, uploadID string) review {
	for _, r := range list {
		unnamed := len(list) == 1 && (r.UploadID == "" || uploadID == "")
		if string(r.UploadID) == uploadID || unnamed {
			return r
		}
	}
	return review{}
}

func (r review) rejected() error {
	code, message := summary(r.Errors)
	switch {
	case message != "" && code != "":
		return fmt.Errorf("the store rejected the upload: %s (%s)", message, code)
	case message != "" || code != "":
		return fmt.Errorf("the store rejected the upload: %s%s", message, code)
	}
	return errors.New("the store rejected the upload and gave no reason")
}

// report says about once a minute that the store is not done.
func (w *wait) report() {
	waited := time.Since(w.start)
	if int(waited/reportEvery) <= w.minutes {
		return
	}
	w.minutes = int(waited / reportEvery)
	w.client.log.Sugar().Infof("Charmhub is still reviewing the upload%s after %s; waiting up to %s",
		w.status(), waited.Round(time.Second), w.client.patience)
}

func (w *wait) status() string {
	if w.last.Status == "" {
		return ""
	}
	return fmt.Sprintf(" (status %s)", quoted(string(w.last.Status)))
}

// gaveUp tells the end of our patience from that of the run.
func (w *wait) gaveUp(run context.Context) error {
	if err := run.Err(); err != nil {
		return fmt.Errorf("stopped waiting for the store's review of the upload%s: %w", w.status(), err)
	}
	return fmt.Errorf("the store has not finished its review of the upload%s within %s; it may still approve it, run this again later to pick up the revision",
		w.status(), w.client.patience)
}

// newWait makes the request that statusURL stands for. It is a path with a query;
// one that leads to another host is refused, since the credentials go along.
func (c *Client) newWait(statusURL string) (*wait, error) {
	store, err := url.Parse(c.store)
	if err != nil {
		return nil, fmt.Errorf("the store's address is none: %w", err)
	}
	u, err := url.Parse(statusURL)
	if err != nil || u.Opaque != "" || u.User != nil {
		return nil, fmt.Errorf("the store's status-url %q is not an address", harmless(statusURL, 200))
	}
	base := c.store
	if u.Scheme != "" || u.Host != "" {
		if base = origin(u); base != origin(store) {
			return nil, fmt.Errorf("the store's status-url %q leads away from %s and is not followed", harmless(statusURL, 200), store.Host)
		}
	}
	path := "/" + strings.TrimPrefix(u.EscapedPath(), "/") + "?" + u.RawQuery
	return &wait{
		client:   c,
		request:  request{doing: "ask for the review of the upload", method: http.MethodGet, base: base, path: path},
		uploadID: u.Query().Get("upload-id"),
		start:    time.Now(),
	}, nil
}
