package inputs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// env is the environment of a test, by variable name.
type env = testkit.Env

// newReader returns a reader and what its runner prints.
func newReader(e env) (*Reader, *bytes.Buffer) {
	var out bytes.Buffer
	return &Reader{Runner: action.New(e.Get, &out)}, &out
}

// complained fails the test unless there is one complaint with this text, or none if it is empty.
func complained(t *testing.T, r *Reader, want string) {
	t.Helper()
	err := errors.Join(r.Complaints...)
	switch {
	case err == nil && want == "":
	case err == nil || want == "" || len(r.Complaints) != 1 || !strings.Contains(err.Error(), want):
		t.Errorf("complaints %v, want %q", r.Complaints, want)
	}
}

func TestBool(t *testing.T) {
	for text, test := range map[string]struct {
		absent, want bool
		complaint    string
	}{
		"": {true, true, ""}, "true": {false, true, ""}, "False": {true, false, ""},
		"yes": {false, false, `input dry-run: "yes" is unknown; write true or false`},
	} {
		r, _ := newReader(env{"INPUT_DRY-RUN": text})
		if got := r.Bool("dry-run", test.absent); got != test.want {
			t.Errorf("%q is %t", text, got)
		}
		complained(t, r, test.complaint)
	}
}

func TestNames(t *testing.T) {
	for name, complaint := range map[string]string{
		"my-charm": "", "": "input charm: missing; give its name on Charmhub, for example my-charm: charm",
		"../x": `input charm: "../x" is invalid; `,
	} {
		r, _ := newReader(env{"INPUT_CHARM": name})
		r.CheckName("charm", "my-charm", charm.CheckName)
		if r.Given("charm") != (name != "") {
			t.Errorf("%q is given: %t", name, r.Given("charm"))
		}
		complained(t, r, strings.Replace(complaint, "my-charm: charm", "charm: my-charm", 1))
	}
}

func TestLists(t *testing.T) {
	r, _ := newReader(env{"INPUT_CHANNEL": "a,,b"})
	if words := r.List("channel", r.Words); len(words) != 2 {
		t.Errorf("words %q", words)
	}
	complained(t, r, "input channel: entry 2 is empty")
}

// The token is masked before anything is said about it, and its parts are, too.
func TestToken(t *testing.T) {
	r, out := newReader(env{"GITHUB_ACTIONS": "true", "CHARMCRAFT_AUTH": testkit.Token})
	token := r.Token()
	if token != testkit.Token || !strings.HasPrefix(out.String(), "::add-mask::"+testkit.Token+"\n") {
		t.Errorf("token %q, printed %q", token, out)
	}
	if r.Credentials("store-token", token, "my-charm", false) == nil ||
		!strings.Contains(out.String(), "::add-mask::a token that nobody sees\n") {
		t.Errorf("printed %q", out)
	}
	complained(t, r, "")
	r, _ = newReader(env{"INPUT_STORE-TOKEN": "no token", "CHARMCRAFT_AUTH": testkit.Token})
	if r.Credentials("store-token", r.Token(), "my-charm", false) != nil {
		t.Error("credentials of a text that is no token")
	}
	complained(t, r, "cannot read the store token")
}

// TestPathAsToken: advice that contains the path would be masked.
func TestPathAsToken(t *testing.T) {
	r, _ := newReader(env{"INPUT_STORE-TOKEN": "secrets/token.txt"})
	if r.Credentials("store-token", r.Token(), "my-charm", false) != nil {
		t.Error("credentials of a path")
	}
	complained(t, r, "input store-token: the secret is the path of a file, not its content; store what the file holds")
}

func TestNoToken(t *testing.T) {
	for want, releases := range map[string]bool{
		"--permission=package-view-revisions --ttl=7776000`, store what that file holds as a secret of the repository, and " +
			"pass it with store-token: ${{ secrets.CHARMHUB_TOKEN }} (" + NoSecrets + ")": false,
		"--permission=package-manage-releases --permission=package-view-releases --ttl=7776000`, store what that file " +
			"holds as a secret of the " +
			"repository, and pass it with store-token: ${{ secrets.CHARMHUB_RELEASE_TOKEN }} (" + NoSecrets + ")": true,
	} {
		r, _ := newReader(env{})
		if r.Credentials("store-token", r.Token(), "my-charm", releases) != nil {
			t.Error("credentials of nothing")
		}
		complained(t, r, want)
		complained(t, r, "make some with `charmcraft login --export=token.txt --charm=my-charm "+
			"--permission=package-manage-revisions ")
	}
}

func TestEndpoints(t *testing.T) {
	const credentials = "https://me:p4ssword@store.test"
	for name, test := range map[string]struct {
		given     env
		store     string
		complaint string
	}{
		"Charmhub's own": {env{}, "https://api.charmhub.io", ""},
		"a variable":     {env{"CHARMCRAFT_STORE_API_URL": "https://store.test/"}, "https://store.test", ""},
		"an input": {env{"CHARMCRAFT_STORE_API_URL": "x", "INPUT_STORE-URL": "http://127.0.0.1:1/a/"},
			"http://127.0.0.1:1/a", ""},
		"a variable that isn't": {env{"CHARMCRAFT_STORE_API_URL": "store.test"}, "",
			"variable CHARMCRAFT_STORE_API_URL: no absolute URL; write one like https://api.charmhub.io"},
		"no URL":     {env{"INPUT_STORE-URL": "https://a:b:c"}, "", "input store-url: no absolute URL"},
		"a password": {env{"INPUT_STORE-URL": credentials}, "", "input store-url: more than a server and a path"},
		"a query": {env{"INPUT_STORE-URL": "https://store.test/?a"}, "",
			"input store-url: more than a server and a path"},
		"a fragment": {env{"INPUT_STORE-URL": "https://store.test/#a"}, "",
			"input store-url: more than a server and a path"},
		"plain HTTP elsewhere": {env{"INPUT_STORE-URL": "http://store.test"}, "",
			"input store-url: the URL doesn't start with https://"},
		"another scheme": {env{"INPUT_STORE-URL": "ftp://127.0.0.1"}, "",
			"input store-url: the URL doesn't start with https://"},
		"a registry that isn't": {env{"INPUT_REGISTRY-URL": "x"}, "https://api.charmhub.io",
			"input registry-url: no absolute URL; write one like https://registry.jujucharms.com"},
		"another server's": {env{"INPUT_STORAGE-URL": "x"}, "https://api.charmhub.io",
			"input storage-url: no absolute URL"},
		"the single sign-on's":   {env{"INPUT_SSO-URL": "x"}, "https://api.charmhub.io", "input sso-url: no absolute URL"},
		"a registry of this run": {env{"INPUT_REGISTRY-URL": "http://localhost:5000"}, "https://api.charmhub.io", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newReader(test.given)
			e := r.Endpoints()
			if test.store != "" && e.Store.String() != test.store {
				t.Errorf("store %s, want %s", e.Store, test.store)
			}
			if given := test.given["INPUT_REGISTRY-URL"] != ""; (e.Registry != nil) != given {
				t.Errorf("registry %v", e.Registry)
			}
			if test.complaint == "" && (e.Website() != "") != (test.store == productionStore) {
				t.Errorf("website %q", e.Website())
			}
			complained(t, r, test.complaint)
			if strings.Contains(fmt.Sprint(r.Complaints), "p4ssword") {
				t.Error("the complaint shows the password")
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	named, nameless, broken := write("named.yaml", "name: my-charm\n"), write("nameless.yaml", "type: charm\n"),
		write("broken.yaml", "name: [\n")
	for path, want := range map[string]string{
		named: "", nameless: "nameless.yaml has no name; give the charm's with the input charm",
		broken:                     "input metadata: cannot read ",
		filepath.Join(dir, "none"): "input metadata: cannot find ",
	} {
		metadata, err := ReadMetadata(workspace.Workspace{}, path)
		name := ""
		if err == nil {
			name, err = CharmName(metadata, path)
		}
		if want != "" {
			testkit.WantError(t, err, want)
		} else if err != nil || name != "my-charm" {
			t.Errorf("%s: name %q, error %v", path, name, err)
		}
	}
}
