package charmhub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// The permissions that the calls need. Together they are all that a token for
// this purpose must have.
const (
	viewRevisions   = "package-view-revisions"
	manageRevisions = "package-manage-revisions"
	viewReleases    = "package-view-releases"
	manageReleases  = "package-manage-releases"
	viewMetadata    = "package-view-metadata" // only to ask for a default track; not in the command for a token
)

// LoginCommand returns the command that makes a token with the permissions of a run
// and no others, for 90 days; charmcraft's own default is 30 hours.
func LoginCommand(charm string, releases bool) string {
	if charm == "" {
		charm = "CHARM"
	}
	permissions := " --permission=" + manageRevisions + " --permission=" + viewRevisions
	if releases {
		permissions += " --permission=" + manageReleases + " --permission=" + viewReleases
	}
	return "charmcraft login --export=token.txt --charm=" + harmless(charm, 100) + permissions + " --ttl=7776000"
}

// explain turns err into the sentence that the caller returns. For a refusal by
// permission it asks the store whose token this is.
func (c *Client) explain(ctx context.Context, r request, err error) error {
	err = describe(r, c.login(r.charm), err)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusForbidden && r.charm != "" {
		c.tokenOwnerOnce.Do(func() { c.tokenOwner = c.askTokenOwner(ctx) })
		refused.Advice += c.tokenOwner
	}
	return err
}

// askTokenOwner says whose token this is and what it permits; nothing if unknown.
func (c *Client) askTokenOwner(ctx context.Context) string {
	account, err := c.whoami(ctx)
	if err != nil {
		return ""
	}
	owner := fmt.Sprintf("; this token is that of %s, for %s, with %s", quoted(account.Username),
		listed("the charms ", account.Charms, "every charm of the account"),
		listed("the permissions ", account.Permissions, "every permission"))
	if len(account.Channels) > 0 {
		owner += listed(", on the channels ", account.Channels, "")
	}
	return owner
}

func listed(prefix string, names []string, all string) string {
	if len(names) == 0 {
		return all
	}
	return prefix + harmless(strings.Join(names, ", "), 500)
}

// describe says what r was about in err, and what to do. login is the command that
// makes a better token.
func describe(r request, login string, err error) error {
	var refused *Error
	var unreachable net.Error
	var untrusted *transport.CertificateError
	switch {
	case errors.As(err, &refused):
	case errors.As(err, &untrusted):
		return fmt.Errorf("cannot %s: %w", r.doing, untrusted)
	case errors.As(err, &unreachable) && !errors.Is(err, context.Canceled):
		return fmt.Errorf("cannot %s: %w; check its address and that this machine reaches it, by the proxy of HTTPS_PROXY if there is one, or run this again later",
			r.doing, err)
	default:
		return fmt.Errorf("cannot %s: %w", r.doing, err)
	}
	refused.Doing, refused.Advice = r.doing, advice(r, login, refused)
	return err
}

// missingPermission returns the permission that a refusal names, or "". Its code
// alone doesn't distinguish a token without permission from an account without.
func missingPermission(e *Error) string {
	_, name, _ := strings.Cut(e.Message, "Missing required permission: ")
	name, _, _ = strings.Cut(name, ";") // another message may follow
	return strings.TrimRight(strings.TrimSpace(name), ".")
}

// advice says what to do about a refusal of r.
func advice(r request, login string, e *Error) string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return fmt.Sprintf("the store token has expired or is no longer valid; make a new one with `%s`", login)
	case e.Status == http.StatusForbidden && missingPermission(e) != "":
		return fmt.Sprintf("the store token lacks the permission %s; make one with `%s`", missingPermission(e), login)
	case e.Status == http.StatusForbidden && e.Code == "macaroon-permission-required" && r.permission != "":
		return fmt.Sprintf("the store token lacks the permission %s, or is for other charms or channels; make one with `%s`", r.permission, login)
	case e.Status == http.StatusForbidden && r.charm != "":
		return fmt.Sprintf("the account of the store token may not do this to charm %s; use a token of the charm's publisher or of one of its collaborators", quoted(r.charm))
	case e.Status == http.StatusNotFound && r.resource != "":
		return fmt.Sprintf("resource %s must be declared by a revision of charm %s that Charmhub already has; `charmcraft resources %s` lists those that are",
			quoted(r.resource), quoted(r.charm), harmless(r.charm, 100))
	case e.Status == http.StatusNotFound && r.permission == manageReleases:
		return fmt.Sprintf("release revisions that `charmcraft revisions %s` lists; one that was created seconds ago may take some more", harmless(r.charm, 100))
	case e.Status == http.StatusNotFound && r.charm != "":
		return fmt.Sprintf("Charmhub knows no charm %s; check the name, or register it with `charmcraft register %s`",
			quoted(r.charm), harmless(r.charm, 100))
	case e.Status >= 500:
		return "the store has a failure of its own; run this again later"
	}
	return ""
}
