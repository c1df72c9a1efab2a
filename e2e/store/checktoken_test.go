package store

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// checkToken runs the program as the action check-token does.
func checkToken(t *testing.T, sandbox *server.Server, inputs ...string) harness.Result {
	t.Helper()
	return harness.Execute(t, exec.CommandContext(t.Context(), harness.Program, "check-token"), sandbox, inputs...)
}

// TestCheckToken: what a token can't do, or can't do for long, is said. Nothing is changed by asking.
func TestCheckToken(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	all := []string{"package-manage-revisions", "package-view-revisions", "package-manage-releases",
		"package-view-releases"}
	without := func(permission string) (others []string) {
		for _, one := range all {
			if one != permission {
				others = append(others, one)
			}
		}
		return others
	}
	const renew = "; make a new one with `charmcraft login --export=token.txt --charm=my-charm " +
		"--permission=package-manage-revisions"
	tests := map[string]struct {
		grant     server.Grant
		inputs    []string
		err, warn string // empty for none
		daysLeft  string
	}{
		"for everything": {grant: server.Grant{Life: 90*day + time.Hour}, daysLeft: "90"},
		"exactly enough": {grant: server.Grant{Life: 20 * day, Permissions: all, Charms: []string{harness.Charm}},
			daysLeft: "19"},
		"the end is in the list": {grant: server.Grant{Life: 20 * day, Unstated: true}, daysLeft: "19"},
		"a pair of macaroons":    {grant: server.Grant{Life: 20 * day, Format: server.FormatSSOPair}, daysLeft: "19"},
		"JSON":                   {grant: server.Grant{Life: 20 * day, Format: server.FormatJSON}, daysLeft: "19"},
		"for uploads": {grant: server.Grant{Life: 20 * day, Permissions: all[:2]},
			inputs: []string{"release-token=none"}, daysLeft: "19"},
		"soon over": {grant: server.Grant{Life: 5 * day}, warn: "check store-token: it expires in 4 days, on ",
			daysLeft: "4"},
		"soon over, but expected": {grant: server.Grant{Life: 5 * day}, inputs: []string{"warn-days=4"}, daysLeft: "4"},
		"too soon over": {grant: server.Grant{Life: 5 * day}, inputs: []string{"fail-days=5"},
			err: "check store-token: it expires in 4 days, on ", daysLeft: "4"},
		"expired": {grant: server.Grant{Life: -day}, daysLeft: "unknown",
			err: "; the store token has expired or is no longer valid" + renew},
		"forged": {grant: server.Grant{Forged: true}, daysLeft: "unknown",
			err: "the store token is no longer valid: it is damaged, or of the kind that charmcraft made before 4.4; "},
		"of another charm": {grant: server.Grant{Life: 20 * day, Charms: []string{"other-charm"}}, daysLeft: "19",
			err: "check store-token: it is for the charms other-charm, not for my-charm" + renew},
		"of another account": {grant: server.Grant{Life: 20 * day, Account: "somebody"}, daysLeft: "19",
			err: "the account of the store token may not do this to charm 'my-charm'"},
		"for uploads, not for releases": {grant: server.Grant{Life: 20 * day, Permissions: all[:2]}, daysLeft: "19",
			err: "or give another one as release-token, which is empty"},
	}
	for _, permission := range all {
		test := tests["exactly enough"]
		test.grant.Permissions = without(permission)
		test.err = "check store-token: it lacks the permissions " + permission + renew
		tests["without "+permission] = test
	}
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := checkToken(t, sandbox, append(test.inputs, "store-token="+sandbox.Mint(test.grant))...)
			r.HasOutputs(t, map[string]string{"days-left": test.daysLeft})
			switch {
			case test.err != "":
				r.Reported(t, test.err)
			case test.warn != "":
				r.Warned(t, test.warn)
			default:
				r.Succeeded(t)
			}
			if report := r.Outputs["report"]; (report == "") != (test.err+test.warn == "") ||
				!strings.Contains(report, test.err) {
				t.Errorf("report %q", report)
			}
		})
	}
	harness.ReadsOnly(t, sandbox)
}

// TestCheckTwoTokens: each is checked for what it is for, and the store's silence about their end is no error.
func TestCheckTwoTokens(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Path != "/v1/tokens" {
			return nil
		}
		return &server.Fault{Status: http.StatusNotFound,
			Body: `{"error-list":[{"code":"api-error","message":"No such call"}]}`}
	})
	upload := sandbox.Mint(server.Grant{Unstated: true,
		Permissions: []string{"package-manage-revisions", "package-view-revisions"}})
	tokens := []string{"store-token=" + upload, "release-token=" +
		sandbox.Mint(server.Grant{Unstated: true, Channels: []string{"latest/edge"}})}
	r := checkToken(t, sandbox, tokens...)
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"days-left": "unknown", "report": ""})
	r.Logged(t, "store-token: account 'publisher', charms all, channels all, permissions package-manage-revisions, "+
		"package-view-revisions; "+
		"when it expires is unknown, since neither the token nor Charmhub says")
	var listed []struct {
		Input    string
		Valid    bool
		Channels []string
		Missing  []string
	}
	if err := json.Unmarshal([]byte(r.Outputs["tokens"]), &listed); err != nil || len(listed) != 2 || !listed[1].Valid ||
		len(listed[1].Channels) != 1 {
		t.Errorf("tokens %s: %v", r.Outputs["tokens"], err)
	}
	swapped := checkToken(t, sandbox, "store-token="+sandbox.Mint(server.Grant{Unstated: true}), "release-token="+upload)
	swapped.Reported(t, "check release-token: it lacks the permissions package-manage-releases, package-view-releases; "+
		"make")
	harness.ReadsOnly(t, sandbox)
}
