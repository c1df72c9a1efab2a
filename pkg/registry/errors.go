package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// userError is an error of a request to the registry or its token service, worded for users.
type userError struct {
	text   string // what went wrong, without URLs
	advice string // what to do about it; empty if unknown
	err    error  // the original error, for errors.As
}

// Error returns the cause, and the advice if there is any.
func (e *userError) Error() string {
	if e.advice == "" {
		return e.text
	}
	return e.text + "; " + e.advice
}

// Unwrap returns the original error.
func (e *userError) Unwrap() error { return e.err }

const runAgain = "run this again later"

// explain returns err in one short sentence, with advice if there is any. For nil it returns nil, and an error that was
// explained already it returns unchanged.
func (r *Repository) explain(err error) error {
	if _, explained := errors.AsType[*userError](err); explained {
		return err
	}
	var untrusted *transport.CertificateError
	var page *transport.PageError
	var answer *registryTransport.Error
	var syntax *json.SyntaxError
	switch err = ociclient.WithoutToken(err, r.name.RegistryStr()); {
	case err == nil:
		return nil
	case errors.As(err, &untrusted):
		return untrusted // without what was asked
	case errors.As(err, &page):
		return &userError{page.Error(), "", err}
	case errors.As(err, &answer):
		f := &userError{text: r.short(err), advice: adviceForStatus(answer.StatusCode), err: err}
		if ociclient.IsDenied(err) {
			f.text = "the registry refused the credentials that Charmhub gave for " + r.name.RepositoryStr() + ": " + f.text
		}
		return f
	case errors.As(err, &syntax): // other JSON is parsed after its digest was verified; this is a token
		return &userError{"the registry's token service answered something else than JSON", runAgain, err}
	case transport.IsBroken(err):
		return &userError{
			r.short(err),
			"check that this machine reaches it, by the proxy of HTTPS_PROXY if there is one, or " + runAgain,
			err,
		}
	}
	return &userError{r.short(err), "", err}
}

// explainSending is explain for a request that sends a part of an image. Its advice says that the next run resumes.
func (r *Repository) explainSending(err error) error {
	explained := r.explain(err)
	if f, ok := errors.AsType[*userError](explained); ok && strings.HasSuffix(f.advice, runAgain) {
		f.advice = "blobs that arrived are kept: " + runAgain + ", which sends the rest"
	}
	return explained
}

// adviceForStatus returns what the user can do about an HTTP status, "" if unknown.
func adviceForStatus(status int) string {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "check that the store token's account may upload to this charm"
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return runAgain
	}
	return ""
}

// asked matches the method and URL at the start of an http.Client's error, and the cause if the connection was closed.
var asked = regexp.MustCompile(`[A-Z][a-z]+ "https?://([^/"]*)[^"]*": ((?:unexpected )?EOF)?`)

// short returns the text of an error without URLs, which are long and may contain the state of an upload.
func (r *Repository) short(err error) string {
	text := err.Error()
	var answer *registryTransport.Error
	if errors.As(err, &answer) {
		text = strings.Replace(text, answer.Error(), answerText(answer), 1)
	}
	text = asked.ReplaceAllStringFunc(text, func(request string) string {
		if parts := asked.FindStringSubmatch(request); parts[2] != "" {
			return "the connection to " + parts[1] + " broke off"
		}
		return ""
	})
	if rest := strings.TrimSuffix(strings.TrimSuffix(text, "unexpected EOF"), "EOF"); rest != text {
		text = rest + "the connection to " + r.name.RegistryStr() + " broke off"
	}
	// A registry on this machine is asked by https, and then by http, and the error has both.
	causes := slices.DeleteFunc(strings.Split(text, "; "), func(cause string) bool {
		return strings.HasSuffix(cause, http.ErrSchemeMismatch.Error())
	})
	if len(causes) > 0 {
		text = strings.Join(slices.Compact(causes), "; ")
	}
	return text
}

// maxDiagnostic is the maximum length of a registry's own error text in messages, in bytes.
const maxDiagnostic = 200

// answerText returns the status and error codes of an answer for messages.
func answerText(answer *registryTransport.Error) string {
	text := "the registry"
	if answer.Request != nil {
		text = answer.Request.URL.Host
	}
	text += fmt.Sprintf(" answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	var codes []string
	for _, d := range answer.Errors {
		codes = append(codes, strings.Trim(fmt.Sprintf("%s: %s", d.Code, strings.TrimSuffix(d.Message, ".")), ": "))
	}
	if all := strings.Join(strings.Fields(strings.Join(codes, ", ")), " "); all != "" { // on one line
		text += ": " + strings.ToValidUTF8(all[:min(len(all), maxDiagnostic)], "")
	}
	return text
}

// isCode reports whether err is an answer with the error code (OCI distribution spec, "Error Codes").
func isCode(err error, code registryTransport.ErrorCode) bool {
	var answer *registryTransport.Error
	return errors.As(err, &answer) &&
		slices.ContainsFunc(answer.Errors, func(d registryTransport.Diagnostic) bool { return d.Code == code })
}
