package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// What a call takes shows only with a token that has no more than what the project assumes that it takes.
var aboutPermissions = []assumption{
	{"Permissions", "package-manage-revisions is enough for the credentials of the registry and the text about an image",
		"the error leads to a token with package-manage and package-view",
		enough("package-manage-revisions", "/oci-image/upload-credentials", "/oci-image/blob")},
	{"Permissions", "package-manage-revisions is enough to make revisions and to change their architectures",
		"the error names the permission, and has the command for a token", enough("package-manage-revisions", "/revisions")},
	{"Permissions", "package-view-revisions is enough for lists and the status of a review",
		"the error names the permission, and has the command for a token",
		enough("package-view-revisions", "/resources", "/revisions", "/revisions/review")},
	{"Permissions", "package-manage-releases and package-view-releases are enough for a release",
		"the error names the permission, and has the command for a token", enough("package-manage-releases", "/releases")},
	{"Permissions", "no call was refused otherwise", "the error says which permission to add", tryRefusals},
}

// enough looks at the answers to the calls whose paths end so.
func enough(permission string, ends ...string) func(context.Context, *contact) (finding, error) {
	return func(_ context.Context, c *contact) (finding, error) {
		kind, _, _ := strings.Cut(permission, "-revisions")
		kind, _, _ = strings.Cut(kind, "-releases") // package-manage or package-view
		if c.token.Permissions == nil || slices.Contains(c.token.Permissions, kind) ||
			!slices.Contains(c.token.Permissions, permission) {
			return untried("the token may do more; run this again with one of docs/contact.md's command")
		}
		calls, refused := 0, ""
		for _, e := range c.recorder.Exchanges() {
			path, _, _ := strings.Cut(e.URL, "?")
			_, path, ofCharm := strings.Cut(path, "/v1/charm/"+c.charm)
			if !ofCharm || !slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(path, end) }) ||
				strings.HasPrefix(permission, "package-manage") != (e.Method != http.MethodGet ||
					strings.HasSuffix(path, "/upload-credentials")) {
				continue
			}
			if calls++; e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized {
				refused = e.Method + " " + path + " answered " + answer{status: e.Status, body: []byte(e.Response.Body)}.problem()
			}
		}
		switch {
		case refused != "":
			return refuted("%s", refused)
		case calls == 0:
			return untried("no such call was made")
		}
		return confirmed("%d calls", calls)
	}
}

// tryRefusals lists the requests that the store refused with 403 during the run.
func tryRefusals(_ context.Context, c *contact) (finding, error) {
	var refused []string
	for _, e := range c.recorder.Exchanges() {
		if e.Status == http.StatusForbidden && strings.Contains(e.URL, "/v1/") {
			line := fmt.Sprintf("%s %s answered %s", e.Method, e.URL,
				answer{status: e.Status, body: []byte(e.Response.Body)}.problem())
			if !slices.Contains(refused, line) {
				refused = append(refused, line)
			}
		}
	}
	if len(refused) > 0 {
		return refuted("%s", strings.Join(refused, "; "))
	}
	return confirmed("")
}
