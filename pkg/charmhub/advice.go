package charmhub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// The permissions that the calls need. Together, those for revisions and releases are all that a token for this purpose
// must have, as far as is known.
const (
	viewRevisions   = "package-view-revisions"
	manageRevisions = "package-manage-revisions"
	viewReleases    = "package-view-releases"
	manageReleases  = "package-manage-releases"
	viewMetadata    = "package-view-metadata" // only to ask for tracks; not in the command for a token

	// Which permission the credentials for the registry, the text of an image and new tracks take isn't documented. These
	// two, charmcraft's own default, include all others for a charm.
	view   = "package-view"
	manage = "package-manage"
)

// LoginCommand returns the command that makes a token with the permissions of a run and no others, for 90 days;
// charmcraft's own default is 30 hours.
func LoginCommand(charm string, releases bool) string {
	return loginCommand(charm, Permissions(releases))
}

// loginCommand returns the command that makes a token for a charm with these permissions, for 90 days. An empty charm
// is shown as CHARM.
func loginCommand(charm string, permissions []string) string {
	command := "charmcraft login --export=token.txt --charm=" + harmless(cmp.Or(charm, "CHARM"), 100)
	for _, permission := range permissions {
		command += " --permission=" + permission
	}
	return command + " --ttl=7776000"
}

// login returns the command that makes credentials with which r would not have been refused as it was.
func (c *Client) login(r request, e *Error) string {
	wanted, missing := Permissions(c.config.Releases), missingPermission(e)
	// Who is refused the tracks is about to create one.
	if (r.permission == manage || r.permission == viewMetadata) && !slices.Contains(wanted, missing) {
		wanted = []string{manage, view}
	}
	if permissionForm.MatchString(missing) && !includes(wanted, missing) {
		wanted = append(wanted, missing)
	}
	return loginCommand(cmp.Or(r.about(), c.config.Charm), wanted)
}

// permissionForm matches the name of a permission, so that no other text from a server gets into a command.
var permissionForm = regexp.MustCompile(`^[a-z]+(-[a-z]+){1,5}$`)

// explain turns err into the sentence that the caller returns. For a refusal by permission it asks the store whose
// token this is.
func (c *Client) explain(ctx context.Context, r request, err error) error {
	err = c.describe(r, err)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusForbidden && r.about() != "" {
		c.tokenOwnerOnce.Do(func() { c.tokenOwner = c.askTokenOwner(ctx) })
		refused.Advice += c.tokenOwner
	}
	return err
}

// askTokenOwner says whose token this is and what it permits; nothing if unknown.
func (c *Client) askTokenOwner(ctx context.Context) string {
	token, err := c.whoami(ctx)
	if err != nil {
		return ""
	}
	owner := fmt.Sprintf("; this token is that of %s, for %s, with %s", quoted(token.Account),
		listed("the charms ", token.Charms, "every charm of the account"),
		listed("the permissions ", token.Permissions, "every permission"))
	if len(token.Channels) > 0 {
		owner += listed(", on the channels ", token.Channels, "")
	}
	return owner
}

// listed returns the prefix and the names; or all if there are no names, which means no restriction.
func listed(prefix string, names []string, all string) string {
	if len(names) == 0 {
		return all
	}
	return prefix + harmless(strings.Join(names, ", "), 500)
}

// describe says what r was about in err, and what to do.
func (c *Client) describe(r request, err error) error {
	var refused *Error
	var unreachable net.Error
	var untrusted *transport.CertificateError
	var page *transport.PageError
	switch {
	case errors.As(err, &refused):
	case errors.As(err, &untrusted):
		return fmt.Errorf("cannot %s: %w", r.doing, untrusted)
	case errors.As(err, &page):
		return fmt.Errorf("cannot %s: %w", r.doing, r.unclear(page))
	case errors.As(err, &unreachable) && transport.IsBroken(err):
		return fmt.Errorf("cannot %s: %w; check its address and that this machine reaches it, by the proxy of HTTPS_PROXY "+
			"if there is one, or run this again later",
			r.doing, err)
	case transport.IsBroken(err):
		return fmt.Errorf("cannot %s: %w"+RunAgain, r.doing, err)
	default:
		return fmt.Errorf("cannot %s: %w", r.doing, err)
	}
	refused.Doing, refused.Advice = r.doing, advice(r, c.login(r, refused), refused)
	return err
}

// missingPermission returns the permission that a refusal names, or "". Its code alone doesn't distinguish a token
// without permission from an account without.
func missingPermission(e *Error) string {
	_, name, _ := strings.Cut(e.Message, "Missing required permission: ")
	name, _, _ = strings.Cut(name, ";") // another message may follow
	return strings.TrimRight(strings.TrimSpace(name), ".")
}

// RunAgain ends errors after which another run may succeed.
const RunAgain = "; run this again later"

// advice says what to do about a refusal of r. login is the command that makes a better token.
func advice(r request, login string, e *Error) string {
	switch {
	case e.gateway && e.Status < 500:
		return "check its address, and that this machine may reach it"
	case e.RetryAfter > 0 && (e.Status >= 500 || e.Status == http.StatusTooManyRequests):
		return fmt.Sprintf("run this again in %s, as it asks", e.RetryAfter)
	case e.gateway, e.Status == http.StatusTooManyRequests:
		return strings.TrimPrefix(RunAgain, "; ")
	case strings.Contains(e.Message, "Invalid macaroon") &&
		(e.Status == http.StatusBadRequest || e.Status == http.StatusUnauthorized):
		return fmt.Sprintf("the store token is no longer valid: it is damaged, or of the kind that charmcraft made before "+
			"4.4; "+
			"update charmcraft to 4.4 or later, and make a new one with `%s`", login)
	case e.Status == http.StatusUnauthorized:
		return fmt.Sprintf("the store token has expired or is no longer valid; make a new one with `%s`", login)
	case e.Status == http.StatusForbidden && missingPermission(e) != "":
		return fmt.Sprintf("the store token lacks the permission %s; make one with `%s`", missingPermission(e), login)
	case e.Status == http.StatusForbidden && r.permission == manage:
		return fmt.Sprintf("the store token may lack the permission %s, or be for other charms; make one as the charm's "+
			"publisher or one of its collaborators with `%s`",
			manage, login)
	case e.Status == http.StatusForbidden && e.Code == "macaroon-permission-required" && r.permission != "":
		return fmt.Sprintf("the store token lacks the permission %s, or is for other charms or channels; make one with `%s`",
			r.permission, login)
	case e.Status == http.StatusForbidden && r.charm != "":
		return fmt.Sprintf("the account of the store token may not do this to charm %s; use a token of the charm's "+
			"publisher or of one of its collaborators", quoted(r.charm))
	// after the store made a revision of this account's upload, or before it knows for which charm
	case e.Status == http.StatusForbidden && r.permission != "":
		return fmt.Sprintf("the store token lacks the permission %s; make one with `%s`", r.permission, login)
	case e.Status == http.StatusNotFound && r.resource != "":
		return fmt.Sprintf("resource %s must be declared by a revision of charm %s that Charmhub already has; `charmcraft "+
			"resources %s` lists those that are",
			quoted(r.resource), quoted(r.charm), harmless(r.charm, 100))
	case e.Status == http.StatusNotFound && r.permission == manageReleases:
		return fmt.Sprintf("release revisions that `charmcraft revisions %s` lists; one that was created seconds ago may "+
			"take some more", harmless(r.charm, 100))
	case e.Status == http.StatusNotFound && r.charm != "":
		return fmt.Sprintf("Charmhub knows no charm %s; check the name, or register it with `charmcraft register %s`",
			quoted(r.charm), harmless(r.charm, 100))
	case e.Status < 500 && r.path == tracksPath:
		return WhoCreatesTracks
	case e.Status >= 500:
		return "the server has a failure of its own" + RunAgain
	}
	return ""
}
