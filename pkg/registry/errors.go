package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	carry "github.com/charmhub-actions/upload-resource/pkg/transport"
)

// explain adds to an error from the registry what a person can do about it.
func (r *Repository) explain(err error) error {
	var untrusted *carry.CertificateError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &untrusted):
		return untrusted // without what was asked
	case isStatus(err, http.StatusUnauthorized, http.StatusForbidden):
		return fmt.Errorf("the registry refused the credentials that Charmhub gave for %s: %w; "+
			"check that the store token's account may upload to this charm", r.name, err)
	case strings.Contains(err.Error(), "no token in bearer response"):
		// That error quotes the token service's answer, and what else is in it may be a secret.
		return errors.New("the registry's token service answered without a token; try again later")
	}
	return err
}

// isStatus reports whether the error is the registry's answer with one of these statuses.
func isStatus(err error, statuses ...int) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && slices.Contains(statuses, answer.StatusCode)
}

// isFailure reports whether the registry failed to answer, and may answer another time.
func isFailure(err error) bool {
	var answer *transport.Error
	if errors.As(err, &answer) {
		return answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests
	}
	var unanswered *url.Error
	return errors.As(err, &unanswered)
}

// isCode reports whether the error is the registry's answer with one of these error codes (distribution spec, "Error
// Codes").
func isCode(err error, codes ...transport.ErrorCode) bool {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return false
	}
	return slices.ContainsFunc(answer.Errors, func(d transport.Diagnostic) bool {
		return slices.Contains(codes, d.Code)
	})
}
