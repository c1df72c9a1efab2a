// Package ociclient has what this program's clients of OCI registries share: what the errors mean that
// go-containerregistry returns for the answers of a registry and of its token service.
package ociclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// IsStatus reports whether an error is an answer with one of these statuses.
func IsStatus(err error, statuses ...int) bool {
	var answer *registryTransport.Error
	return errors.As(err, &answer) && slices.Contains(statuses, answer.StatusCode)
}

// IsDenied reports whether a request was refused for lack of permission.
func IsDenied(err error) bool {
	return IsStatus(err, http.StatusUnauthorized, http.StatusForbidden)
}

// IsFailure reports whether there was no answer, or one that another try may change.
func IsFailure(err error) bool {
	var answer *registryTransport.Error
	if errors.As(err, &answer) {
		return answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests
	}
	var unanswered *url.Error
	return errors.As(err, &unanswered)
}

// WithoutToken replaces an error about a token service's answer that has no token. That error quotes the answer, and what
// else is in it may be a secret. Other errors are returned as they are.
func WithoutToken(err error, registry string) error {
	if err == nil || !strings.Contains(err.Error(), "no token in bearer response") {
		return err
	}
	return fmt.Errorf("the token service of %s answered without a token; run this again later", registry)
}

// CheckRedirect returns an error if an answer sends a request on to another host. Registries have blobs on other hosts, and
// reading these takes no credentials; whoever else answers in a registry's place could ask for these.
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
