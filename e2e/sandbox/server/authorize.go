package server

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"gopkg.in/macaroon.v2"
)

// The permissions that the calls of the store need.
const (
	mayView           = "package-view-revisions"
	mayManage         = "package-manage-revisions"
	mayViewMetadata   = "package-view-metadata"
	mayViewReleases   = "package-view-releases"
	mayManageReleases = "package-manage-releases"
	mayManageAll      = "package-manage" // where it isn't known which one of those that it contains is enough
)

// authenticate returns whose call it is, or refuses it: no token, one that doesn't verify, one that is over.
func (s *Server) authenticate(r *http.Request) (identity, error) {
	if agent := r.UserAgent(); agent == "" || strings.HasPrefix(agent, "Go-http-client/") {
		return identity{}, refuse(http.StatusBadRequest, "user-agent-required", "Say who is calling in User-Agent")
	}
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Macaroon") {
		return identity{}, refuse(http.StatusUnauthorized, "macaroon-authorization-required", "Authorization Required")
	}
	session, caveats, err := s.verify(credentials)
	if err != nil {
		return identity{}, refuse(http.StatusUnauthorized, "macaroon-authorization-required",
			"Invalid macaroon: "+err.Error())
	}
	who, err := readCaveats(caveats)
	if err != nil {
		return who, refuse(http.StatusUnauthorized, "macaroon-authorization-required", "Invalid macaroon: "+err.Error())
	}
	if who.outdated { // in the form of canonical/charmcraft#2806
		return who, refuse(http.StatusBadRequest, "BadRequest", "Invalid macaroon")
	}
	if who.expires.IsZero() {
		who.expires, who.unstated = s.sessionEnd(session), true
	}
	if time.Now().After(who.expires) {
		return who, refuse(http.StatusUnauthorized, "macaroon-needs-refresh", "Expired macaroon")
	}
	return who, nil
}

// verify returns the session and the caveats of a token whose signatures hold. A discharge counts only when it is bound
// to its root.
func (s *Server) verify(credentials string) (session string, caveats []string, err error) {
	rootText, dischargeText := splitPair(credentials)
	root, err := deserialize(rootText)
	if err != nil {
		return "", nil, err
	}
	var discharges []*macaroon.Macaroon
	if dischargeText != "" {
		discharge, err := deserialize(dischargeText)
		if err != nil {
			return "", nil, err
		}
		discharges = append(discharges, discharge)
	}
	caveats, err = root.VerifySignature(s.keys.store, discharges)
	if err == nil && dischargeText != "" {
		s.secrets.add(storeOwns, credentials, dischargeText) // bound by the client: seen here first
	}
	return string(root.Id()), caveats, err
}

// splitPair reads root=…, discharge=…, with or without quotes; anything else is a root by itself.
func splitPair(credentials string) (root, discharge string) {
	if !strings.HasPrefix(credentials, "root=") {
		return credentials, ""
	}
	for part := range strings.SplitSeq(credentials, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "root":
			root = strings.Trim(value, `"`)
		case "discharge":
			discharge = strings.Trim(value, `"`)
		}
	}
	return root, discharge
}

// authorize refuses what the owner of a charm may do and this caller may not.
func (who identity) authorize(permission, charm string) error {
	if !who.may(permission) {
		return refuse(http.StatusForbidden, "permission-required", "Missing required permission: "+permission)
	}
	if who.charms != nil && !slices.Contains(who.charms, charm) {
		return refuse(http.StatusForbidden, "macaroon-permission-required", "Macaroon is not valid for charm "+charm)
	}
	if who.account != Publisher {
		return refuse(http.StatusForbidden, "permission-required",
			"No publisher or collaborator permission for the "+charm+" Charmhub package")
	}
	return nil
}

// may knows the two permissions that contain others. To manage doesn't include to view, nor does it in Charmhub
// (canonical/charmcraft#930).
func (who identity) may(permission string) bool {
	return who.permissions == nil ||
		slices.Contains(who.permissions, permission) ||
		strings.HasPrefix(permission, "package-manage-") && slices.Contains(who.permissions, "package-manage") ||
		strings.HasPrefix(permission, "package-view-") && slices.Contains(who.permissions, "package-view")
}
