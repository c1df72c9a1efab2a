// Package ociclient interprets the errors that go-containerregistry returns for answers of registries and token
// services. It also decides which redirects of a registry are followed.
package ociclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// IsStatus reports whether err is an answer with one of the HTTP statuses.
func IsStatus(err error, statuses ...int) bool {
	var answer *registryTransport.Error
	return errors.As(err, &answer) && slices.Contains(statuses, answer.StatusCode)
}

// IsDenied reports whether the server refused a request because of missing permission (401 or 403).
func IsDenied(err error) bool {
	return IsStatus(err, http.StatusUnauthorized, http.StatusForbidden)
}

// scopeRefusal matches the error of a challenge to a token that doesn't allow what a request does (RFC 6750, section
// 3.1).
var scopeRefusal = regexp.MustCompile(`(?i)^bearer\b.*\berror="?insufficient_scope\b`)

// IsScopeRefusal reports whether a server answered that the token doesn't allow what the request does. Res may be nil.
// Charmhub's registry has said so for up to a minute of tokens that do allow it.
func IsScopeRefusal(res *http.Response) bool {
	return res != nil && (res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden) &&
		slices.ContainsFunc(res.Header.Values("WWW-Authenticate"), scopeRefusal.MatchString)
}

// IsFailure reports whether a request got no answer, or an answer that may be different next time (429 or 5xx).
func IsFailure(err error) bool {
	var answer *registryTransport.Error
	if errors.As(err, &answer) {
		return answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests
	}
	var unanswered *url.Error
	return errors.As(err, &unanswered)
}

// WithoutToken returns err, unless it is about a token service's answer that has no token. It replaces such an error,
// because it quotes the answer, which may contain a secret. Registry is the registry's name, for the message.
func WithoutToken(err error, registry string) error {
	if err == nil || !strings.Contains(err.Error(), "no token in bearer response") {
		return err
	}
	return fmt.Errorf("the token service of %s answered without a token; run this again later", registry)
}

// CheckRedirect returns an error if res redirects req to another host or scheme. Call it for all requests except those
// that read blobs: blobs may be stored elsewhere, and reading them there needs no credentials. In other cases the other
// host could ask for credentials.
func CheckRedirect(req *http.Request, res *http.Response) error {
	to, err := res.Location()
	switch {
	case res.StatusCode/100 != 3 || errors.Is(err, http.ErrNoLocation):
		return nil
	case err != nil:
		return fmt.Errorf("%s redirected a %s to an invalid URL: %w", req.URL.Host, req.Method, err)
	case to.Host == req.URL.Host && to.Scheme == req.URL.Scheme:
		return nil
	}
	return fmt.Errorf("%s redirected a %s to %q, another host, which isn't followed",
		req.URL.Host, req.Method, to.Scheme+"://"+to.Host)
}
