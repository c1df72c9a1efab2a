package charmhub

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrUnclear marks a failure of [Client.CreateRevision], [Client.CreateCharmRevision], [Client.SetArchitectures],
// [Client.CreateTracks] or [Client.Release] after which it isn't known whether the store did it: the request was sent,
// and the answer was lost, cut off, or a 5xx. Read what the store lists before asking again.
var ErrUnclear = errors.New("the store gave no clear answer")

// Error is a refusal by the store, its storage or single sign-on. Its texts come from outside: they are bounded, on one
// line, and free of control characters.
type Error struct {
	Doing   string // what was refused, to be read after "cannot"
	Host    string // who refused
	Status  int    // HTTP status
	Code    string // the first code in the answer, "" if it names none
	Message string // the messages in the answer, "" if it holds none
	Request string // the request's ID in the logs of who refused, "" if it gave none
	Advice  string // what to do about it, "" if unknown

	// RetryAfter is how long the answer asks to wait before another try; 0 if it doesn't, or in a form other than a number
	// of seconds.
	RetryAfter time.Duration

	gateway bool // answered in HTML: by something in front of the API
	refresh bool // asks for refreshed credentials
	unclear bool
}

// Error says what was refused, by whom, why, and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot %s: ", e.Doing)
	switch {
	case e.gateway && e.Status >= 500:
		b.WriteString("a gateway in front of ")
	case e.gateway:
		b.WriteString("something in front of ")
	}
	fmt.Fprintf(&b, "%s answered %d %s", e.Host, e.Status, http.StatusText(e.Status))
	if e.Code != "" {
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", strings.TrimSuffix(e.Message, "."))
	}
	if e.Request != "" {
		fmt.Fprintf(&b, " (request %s)", e.Request)
	}
	if e.Advice != "" {
		fmt.Fprintf(&b, "; %s", e.Advice)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrUnclear) true for an answer that leaves open whether the request was carried out.
func (e *Error) Is(target error) bool { return target == ErrUnclear && e.unclear }

// needsRefresh reports whether the server refused expired credentials that single sign-on can renew.
func needsRefresh(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.refresh
}

// unclear marks err as [ErrUnclear] if the server may have carried out r in spite of it.
func (r request) unclear(err error) error {
	var op *net.OpError
	if err == nil || !r.creates || errors.As(err, &op) && op.Op == "dial" {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnclear, err)
}

// readError returns the error for an answer that isn't 2xx. It reads the forms of Charmhub, the snap store, single
// sign-on, and HTML from a proxy.
func readError(response *http.Response) *Error {
	// If the body can't be read, the status says enough.
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	e := &Error{Host: response.Request.URL.Host, Status: response.StatusCode, Request: requestID(response)}
	if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 31); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	problems := parseProblems(text)
	e.Code, e.Message = summary(problems)
	e.gateway = len(problems) == 0 && strings.HasPrefix(strings.TrimSpace(string(text)), "<")
	// The snap side's dialect asks for a refresh in a header instead of a code.
	e.refresh = e.Status == http.StatusUnauthorized &&
		(hasCode(problems, "macaroon-needs-refresh") ||
			strings.Contains(response.Header.Get("WWW-Authenticate"), "needs_refresh=1"))
	return e
}

// requestID returns the name that a server gave to a request, by which its operators find it in their logs.
func requestID(response *http.Response) string {
	return harmless(response.Header.Get("X-Request-Id"), 100)
}

// harmless returns text from outside as at most limit characters on one line, without control characters, escapes or
// marks that reorder what is shown.
func harmless(outside string, limit int) string {
	clean := strings.Join(strings.FieldsFunc(outside, func(r rune) bool {
		return r == utf8.RuneError || unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
	}), " ")
	if runes := []rune(clean); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return clean
}

// quoted returns a name for use in a sentence.
func quoted(name string) string { return "'" + harmless(name, 100) + "'" }
