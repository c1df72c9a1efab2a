package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/contact/traffic"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

const branch = "latest/edge/contact-2027-01-31"

// start starts a sandbox whose charm has two revisions, the newest for two bases.
func start(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	options.Charms = []server.Charm{{Name: "my-charm", Private: len(options.Charms) > 0 && options.Charms[0].Private,
		Resources: []server.Resource{
			{Name: "my-image", Type: server.TypeImage}, {Name: "my-file", Type: server.TypeFile, Optional: true},
		}}}
	options.InMemory = true
	sandbox, err := server.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sandbox.Close() })
	sandbox.PutCharm("my-charm", strings.NewReader(charmtest.File(t, charmtest.Metadata("my-charm"),
		server.ReleaseBase{Name: "ubuntu", Channel: "22.04", Architecture: "amd64"},
		server.ReleaseBase{Name: "ubuntu", Channel: "24.04", Architecture: "amd64"})))
	return sandbox
}

// of returns a command for a sandbox, whose clock goes on where the command waits, and its folder.
func of(t *testing.T, sandbox *server.Server, variables ...string) (c command, out *bytes.Buffer, folder string) {
	t.Helper()
	env := map[string]string{}
	for _, variable := range slices.Concat(sandbox.Env(), variables) {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	out, folder = &bytes.Buffer{}, filepath.Join(t.TempDir(), "report")
	return command{
		getenv: func(name string) string { return env[name] }, in: strings.NewReader(""), out: out, date: "2027-01-31",
		seed: "seed",
		wait: func(ctx context.Context, d time.Duration) error { sandbox.AdvanceClock(d); return ctx.Err() },
	}, out, folder
}

// read returns the files of a folder, after a search for secrets.
func read(t *testing.T, sandbox *server.Server, folder string, more ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"report.md", "traffic.jsonl", "text.json"} {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil && name != "text.json" {
			t.Error(err)
		}
		files[name] = string(content)
	}
	for name, content := range files {
		noSecret(t, sandbox, name, content)
	}
	for _, content := range more {
		noSecret(t, sandbox, "the output", content)
	}
	return files
}

// noSecret fails the test if content has a secret of the sandbox or an e-mail address of it. where names the content
// in the failure.
func noSecret(t *testing.T, sandbox *server.Server, where, content string) {
	t.Helper()
	for _, secret := range append(sandbox.Secrets(), "@example.com") {
		if strings.Contains(content, secret) {
			t.Errorf("%s holds the secret %s…", where, secret[:6])
		}
	}
}

// onlyBranch fails the test if anything but the branch was released.
func onlyBranch(t *testing.T, sandbox *server.Server) {
	t.Helper()
	for _, r := range sandbox.Releases("my-charm") {
		if r.Channel != branch {
			t.Errorf("charm revision %d was released to %s", r.Revision, r.Channel)
		}
	}
}

// results returns each line's result by what it says.
func results(out string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(out) {
		for _, result := range []string{"held", "didn't hold", "not tried"} {
			if says, ok := strings.CutPrefix(line, fmt.Sprintf("%-12s ", result)); ok {
				says, _, _ = strings.Cut(strings.TrimSpace(says), ": ")
				all[says] = result
			}
		}
	}
	return all
}

// wantResults fails the test unless all lines held but those that are given.
func wantResults(t *testing.T, out string, but map[string]string) {
	t.Helper()
	want := map[string]string{}
	for _, a := range assumptions() {
		want[a.says] = "held"
		for part, result := range but {
			if strings.Contains(a.says, part) {
				want[a.says] = result
			}
		}
	}
	if diff := cmp.Diff(want, results(out)); diff != "" {
		t.Errorf("results (-want +got):\n%s\n%s", diff, out)
	}
}

var permissions = []string{"package-manage-revisions", "package-view-revisions", "package-manage-releases",
	"package-view-releases", "package-view-metadata"}

// What a run finds out is what the sandbox is, by its profile. Its traffic, played back, gives the same lines.
func TestContact(t *testing.T) {
	for _, profile := range server.Profiles() {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			testContact(t, profile)
		})
	}
}

// testContact runs first contact against a sandbox of the profile, and checks its results, its releases and its
// report.
func testContact(t *testing.T, profile string) {
	t.Helper()
	options, err := server.Profile(profile)
	if err != nil {
		t.Fatal(err)
	}
	sandbox := start(t, options)
	c, out, folder := of(t, sandbox, "CHARMCRAFT_AUTH="+sandbox.Mint(server.Grant{Permissions: permissions}))
	arguments := []string{"-charm", "my-charm", "-yes", "-folder", folder}
	if err := c.run(t.Context(), arguments); err != nil {
		t.Fatal(err)
	}
	wantResults(t, out.String(), expected[profile])
	onlyBranch(t, sandbox)
	if exposed, err := sandbox.Exposed(); err != nil || len(exposed) > 0 {
		t.Error(exposed, err)
	}
	files := read(t, sandbox, folder, out.String())
	for _, part := range []string{"# First contact with ", "| held | the text is the same when it is asked for again |",
		"## Times", "/manifests/…` |"} {
		if !strings.Contains(files["report.md"], part) {
			t.Errorf("the report lacks %q:\n%s", part, files["report.md"])
		}
	}

	exchanges, err := traffic.Read(strings.NewReader(files["traffic.jsonl"]))
	if err != nil {
		t.Fatal(err)
	}
	if err := sandbox.Close(); err != nil {
		t.Fatal(err)
	}
	played, again, _ := of(t, sandbox)
	played.wire = traffic.NewPlayer(exchanges)
	if err := played.run(t.Context(), arguments); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(results(out.String()), results(again.String())); diff != "" {
		t.Errorf("results when played back (-recorded +played):\n%s\n%s", diff, again)
	}
}

// expected are the lines that don't hold in a sandbox of each profile.
var expected = map[string]map[string]string{
	server.Production: {
		"the channel map lists": "not tried", // nothing is released
		"newest first":          "didn't hold",
	},
	server.Strict: {
		"the channel map lists":       "not tried",
		"on the store's host":         "didn't hold",
		"leaves out are carried over": "didn't hold",
		"a release for one base":      "didn't hold",
	},
	server.Rude: {
		"the channel map lists":                "not tried",
		"is compact JSON":                      "didn't hold",
		"the list has the revision when":       "didn't hold",
		"newest first":                         "didn't hold",
		"released to a branch, and the answer": "didn't hold",
		"a release for one base":               "didn't hold",
	},
}

// cutter stops a run after so many lines.
type cutter struct {
	bytes.Buffer
	lines int
	stop  func()
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	if len(results(c.String())) >= c.lines {
		c.stop()
	}
	return n, err
}

// atOnce is how many runs that are stopped there are at a time: most of them wait, for failures in passing to pass.
const atOnce = 44

// Wherever a run is stopped, under each profile, it has released nothing but its branch, and reports what it found out.
// Before the first line it says what it will do.
func TestContactIsStopped(t *testing.T) {
	t.Parallel()
	slots := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	for _, profile := range server.Profiles() {
		for lines := range len(assumptions()) + 1 {
			running.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				t.Run(fmt.Sprintf("%s/%d", profile, lines), func(t *testing.T) { testStopped(t, profile, lines) })
			})
		}
	}
	running.Wait()
}

// testStopped stops a run against a sandbox of the profile after so many lines.
func testStopped(t *testing.T, profile string, lines int) {
	t.Helper()
	options, err := server.Profile(profile)
	if err != nil {
		t.Fatal(err)
	}
	sandbox := start(t, options)
	c, _, folder := of(t, sandbox)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &cutter{lines: lines, stop: stop}
	c.out = out
	if err := c.run(ctx, []string{"-charm", "my-charm", "-yes", "-folder", folder}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := len(results(out.String())); n != lines {
		t.Errorf("%d lines:\n%s", n, out)
	}
	onlyBranch(t, sandbox)
	files := read(t, sandbox, folder, out.String())
	if n := strings.Count(files["report.md"], "\n| held |") + strings.Count(files["report.md"], "\n| didn't hold |") +
		strings.Count(files["report.md"], "\n| not tried |"); n != lines {
		t.Errorf("the report has %d of %d lines:\n%s", n, lines, files["report.md"])
	}
}

// Without agreement, nothing is asked of any server.
func TestContactAsks(t *testing.T) {
	sandbox := start(t, server.Options{})
	for answer, agreed := range map[string]bool{"": false, "n\n": false, "maybe\n": false, "y": true, "Yes\n": true} {
		c, out, folder := of(t, sandbox)
		c.in = strings.NewReader(answer)
		sandbox.ResetRequests()
		err := c.run(t.Context(), []string{"-charm", "my-charm", "-folder", folder})
		if (err == nil) != agreed || (len(sandbox.Requests()) > 0) != agreed {
			t.Errorf("%q: %v, after %d requests", answer, err, len(sandbox.Requests()))
		}
		for _, part := range []string{"leaves behind", branch, "Go on?"} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("%q isn't said:\n%s", part, out)
			}
		}
	}
}

// A later run tells whether the text about the image of the first one has changed.
func TestContactAgain(t *testing.T) {
	for name, test := range map[string]struct {
		passed time.Duration
		want   string
	}{
		"the same": {0, "held"}, "another": {720 * time.Hour, "didn't hold"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			sandbox := start(t, server.Options{TextPeriod: 720 * time.Hour})
			c, out, _ := of(t, sandbox)
			if err := c.run(t.Context(), []string{"-charm", "my-charm", "-yes"}); err != nil {
				t.Fatal(err)
			}
			out.Reset()
			sandbox.AdvanceClock(test.passed)
			sandbox.ResetRequests()
			c.date = "2027-03-02"
			if err := c.run(t.Context(), []string{"-charm", "my-charm", "-yes", "-again", "2027-01-31"}); err != nil {
				t.Fatal(err)
			}
			if got := results(out.String())["the text is the same as in the earlier run"]; got != test.want {
				t.Errorf("got %q:\n%s", got, out)
			}
			for _, r := range sandbox.Requests() {
				if r.Method != http.MethodGet && !strings.HasSuffix(r.Path, "/oci-image/blob") {
					t.Errorf("it sent %s", r)
				}
			}
			read(t, sandbox, "contact-my-charm-2027-01-31-again-2027-03-02", out.String())
		})
	}
}

// What a store refuses, or lacks, is a line like any other, and stops nothing that doesn't need it.
func TestContactWithLess(t *testing.T) {
	refuse := func(path string) func(server.Request) *server.Fault {
		return func(r server.Request) *server.Fault {
			if !strings.HasSuffix(r.Path, path) {
				return nil
			}
			return &server.Fault{Status: http.StatusForbidden,
				Body: `{"error-list":[{"code":"permission-required","message":"No"}]}`}
		}
	}
	for path, want := range map[string][]string{
		"/oci-image/upload-credentials": {"didn't hold  the store gives a repository", "not tried    an index",
			"held         a file becomes", "didn't hold  no call was refused otherwise: GET "},
		"/oci-image/blob": {"didn't hold  the store describes", "not tried    a text becomes",
			"held         a charm revision with"},
		"/releases": {"not tried    the channel map", "not tried    a charm revision with"},
		"/whoami":   {"didn't hold  the token works", "not tried    a charm revision with"},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			sandbox := start(t, server.Options{})
			sandbox.PutResource("my-charm", "my-image", strings.NewReader("{}"))
			sandbox.Fault(refuse(path))
			c, out, folder := of(t, sandbox)
			if err := c.run(t.Context(), []string{"-charm", "my-charm", "-yes", "-folder", folder}); err != nil {
				t.Fatal(err)
			}
			for _, part := range want {
				if !strings.Contains(out.String(), "\n"+part) {
					t.Errorf("%q isn't a line:\n%s", part, out)
				}
			}
			onlyBranch(t, sandbox)
			read(t, sandbox, folder, out.String())
		})
	}
}

func TestContactComplains(t *testing.T) {
	sandbox := start(t, server.Options{})
	for want, arguments := range map[string][]string{
		"give the charm's name on Charmhub, as -charm my-charm":         {"-yes"},
		"give the charm's name":                                         {"-charm", "My Charm"},
		"CHARMCRAFT_AUTH is empty; make a token with `charmcraft login": {"-charm", "my-charm", "CHARMCRAFT_AUTH="},
		"cannot read the store token":                                   {"-charm", "my-charm", "CHARMCRAFT_AUTH=x"},
		"no absolute URL":                                               {"-charm", "my-charm", "CHARMCRAFT_STORE_API_URL=x"},
		"run this where its folder is":                                  {"-charm", "my-charm", "-again", "2020-01-01"},
	} {
		var variables []string
		if last := arguments[len(arguments)-1]; strings.Contains(last, "=") {
			arguments, variables = arguments[:len(arguments)-1], []string{last}
		}
		c, _, _ := of(t, sandbox, variables...)
		if err := c.run(t.Context(), arguments); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", arguments, err)
		}
	}
}
