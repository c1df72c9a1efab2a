package server_test

import (
	"crypto/sha3"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

const (
	charmPath     = "/v1/charm/my-charm"
	releasesPath  = charmPath + "/releases"
	revisionsPath = charmPath + "/revisions"
)

var (
	jammy = server.ReleaseBase{Name: "ubuntu", Channel: "22.04", Architecture: "amd64"}
	noble = server.ReleaseBase{Name: "ubuntu", Channel: "24.04", Architecture: "amd64"}
)

// charmFile returns the content of a charm file with this name and these bases.
func charmFile(t *testing.T, name string, bases ...server.ReleaseBase) string {
	t.Helper()
	return charmtest.File(t, charmtest.Metadata(name), bases...)
}

// startEmpty returns a sandbox with a charm that is nothing but a name, and a track beside latest.
func startEmpty(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	options.ReviewDelay = 1
	options.Charms = []server.Charm{{Name: "my-charm", Tracks: []string{"2.0"}}}
	s, err := server.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// startReleasable returns a sandbox whose charm has revision 1 for two bases, one revision of its image and none of its
// file.
func startReleasable(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	s := startEmpty(t, options)
	s.PutCharm("my-charm", strings.NewReader(charmFile(t, "my-charm", jammy, noble)))
	s.PutResource("my-charm", "my-image", strings.NewReader("an image"))
	return s
}

// submitCharm hands an upload in as a charm and returns the path of its review.
func submitCharm(t *testing.T, s *server.Server, content string) string {
	t.Helper()
	created := publisher(t, s, http.MethodPost, revisionsPath, `{"upload-id":"`+send(t, s, content)+`"}`)
	path, _ := created.field(t, "status-url").(string)
	if path == "" {
		t.Fatalf("no review: %+v", created)
	}
	return path
}

func TestCharmIsReviewed(t *testing.T) {
	s := startEmpty(t, server.Options{ListLag: 1})
	file := charmFile(t, "my-charm", jammy, noble)
	review := submitCharm(t, s, file)
	for i, want := range [][2]any{{"new", nil}, {"approved", 1.0}} {
		if status, revision := pollReview(t, s, review); status != want[0] || revision != want[1] {
			t.Errorf("look %d: %v %v, want %v", i+1, status, revision, want)
		}
	}
	sum := sha3.Sum384([]byte(file))
	digest := hex.EncodeToString(sum[:])
	want := []server.CharmRevision{{Number: 1, Bases: []server.ReleaseBase{jammy, noble}, SHA3: digest}}
	if diff := cmp.Diff(want, s.CharmRevisions("my-charm")); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
	if listed := publisher(t, s, http.MethodGet, revisionsPath, ""); listed.field(t, "revisions", "revision") != nil {
		t.Errorf("the list doesn't lag: %s", listed.text)
	}
	listed := publisher(t, s, http.MethodGet, revisionsPath, "")
	if listed.field(t, "revisions", "sha3-384") != digest || listed.field(t, "revisions", "status") != "approved" ||
		listed.field(t, "revisions", "bases", "channel") != "22.04" {
		t.Errorf("listed %s", listed.text)
	}
	const declared = `{"resources":[{"name":"my-file","optional":true,"revision":1,"type":"file"},` +
		`{"name":"my-image","optional":false,"revision":1,"type":"oci-image"}]}`
	if got := publisher(t, s, http.MethodGet, resources, ""); strings.TrimSpace(got.text) != declared {
		t.Errorf("declared %s, want %s", got.text, declared)
	}
	submit(t, s, send(t, s, "content")) // the resource can be uploaded now
}

func TestCharmIsRejected(t *testing.T) {
	for name, test := range map[string]struct {
		content, want string
	}{
		"the same file": {charmFile(t, "my-charm", jammy),
			"already exists in the database. Revision of the existing package is: 1"},
		"another charm":     {charmFile(t, "other-charm", jammy), "the charm's name is 'other-charm'"},
		"no charm":          {"text", "not a zip archive"},
		"without any bases": {charmFile(t, "my-charm"), "has no bases"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startEmpty(t, server.Options{})
			s.PutCharm("my-charm", strings.NewReader(charmFile(t, "my-charm", jammy)))
			review := submitCharm(t, s, test.content)
			pollReview(t, s, review)
			got := publisher(t, s, http.MethodGet, review, "")
			message, _ := got.field(t, "revisions", "errors", "message").(string)
			if got.field(t, "revisions", "status") != "rejected" ||
				got.field(t, "revisions", "errors", "code") != "review-error" ||
				!strings.Contains(message, test.want) {
				t.Errorf("review: %s", got.text)
			}
			if n := len(s.CharmRevisions("my-charm")); n != 1 {
				t.Errorf("%d revisions, want 1", n)
			}
		})
	}
}

// TestRelease: an entry is for all bases of its revision, one that names a base for that alone, and null closes a
// channel.
func TestRelease(t *testing.T) {
	s := startReleasable(t, server.Options{})
	post := func(body string) {
		t.Helper()
		expect(t, publisher(t, s, http.MethodPost, releasesPath, body), 200, "")
	}
	check := func(want ...server.Release) {
		t.Helper()
		if diff := cmp.Diff(want, s.Releases("my-charm")); diff != "" {
			t.Errorf("releases (-want +got):\n%s", diff)
		}
	}
	one := map[string]int{"my-image": 1}
	post(`[{"channel":"edge","revision":1,"resources":[{"name":"my-image","revision":1},{"name":"my-file",` +
		`"revision":null}]}]`)
	check(server.Release{Channel: "latest/edge", Base: jammy, Revision: 1, Resources: one},
		server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: one})

	s.PutResource("my-charm", "my-file", strings.NewReader("a file"))
	post(`[{"channel":"2.0/beta/pr-1","revision":1,"base":{"name":"ubuntu","channel":"24.04","architecture":"amd64"},` +
		`"resources":[{"name":"my-image","revision":1},{"name":"my-file","revision":1}]}]`)
	post(`[{"channel":"latest/edge","revision":null}]`)
	check(server.Release{Channel: "2.0/beta/pr-1", Base: noble, Revision: 1,
		Resources: map[string]int{"my-image": 1, "my-file": 1}})

	listed := publisher(t, s, http.MethodGet, releasesPath, "")
	var answer struct {
		Map []struct {
			Expires   *string `json:"expiration-date"`
			Resources json.RawMessage
		} `json:"channel-map"`
		Package struct {
			Channels []struct{ Name, Fallback string }
		}
		Revisions []struct{ Status string }
	}
	if err := json.Unmarshal([]byte(listed.text), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Map) != 1 || answer.Map[0].Expires == nil || len(answer.Revisions) != 1 ||
		answer.Revisions[0].Status != "released" {
		t.Errorf("listed %s", listed.text)
	}
	last := answer.Package.Channels[len(answer.Package.Channels)-1]
	if len(answer.Package.Channels) != 9 || last.Name != "2.0/beta/pr-1" || last.Fallback != "2.0/beta" {
		t.Errorf("channels %+v", answer.Package.Channels)
	}
}

// TestReleaseRefuses: a request with a wrong entry is refused, and none of its other entries is released.
func TestReleaseRefuses(t *testing.T) {
	s := startReleasable(t, server.Options{NoReleaseBase: true})
	const good = `{"channel":"latest/stable","revision":1,"resources":[{"name":"my-image","revision":1},` +
		`{"name":"my-file","revision":null}]}`
	for name, test := range map[string]struct {
		entry   string
		status  int
		message string
	}{
		"an unknown track":    {`{"channel":"3.0/edge","revision":1}`, 400, "Invalid track: 3.0"},
		"an unknown risk":     {`{"channel":"latest/risky","revision":1}`, 400, "Invalid channel: latest/risky"},
		"no channel":          {`{"revision":1}`, 400, "Invalid channel: "},
		"an unknown revision": {`{"channel":"edge","revision":7}`, 404, "Revision 7 not found for my-charm"},
		"a base":              {`{"channel":"edge","revision":1,"base":{"name":"ubuntu"}}`, 400, "'base' was unexpected"},
		"a closed channel":    {`{"channel":"edge","revision":null}`, 400, "Channel latest/edge is closed already"},
		"one place twice":     {good, 400, "given twice"},
		"a resource twice": {`{"channel":"edge","revision":1,"resources":[{"name":"my-image","revision":1},` +
			`{"name":"my-image","revision":1}]}`, 400, "'my-image' is given twice"},
		"an undeclared resource": {`{"channel":"edge","revision":1,"resources":[{"name":"nothing","revision":1}]}`, 400,
			"'nothing' is not valid for charm with id"},
		"an unknown resource": {`{"channel":"edge","revision":1,"resources":[{"name":"my-image","revision":9}]}`, 400,
			"'my-image' with revision 9 does not exist"},
		"a resource left out": {`{"channel":"edge","revision":1,"resources":[{"name":"my-file","revision":null}]}`, 400,
			"'my-image' doesn't have a released revision"},
		"one that it needs, none": {`{"channel":"edge","revision":1,"resources":[{"name":"my-image","revision":null}]}`, 400,
			"'my-image' doesn't have a released revision"},
		"one that never was": {`{"channel":"edge","revision":1,"resources":[{"name":"my-image","revision":1}]}`, 400,
			"'my-file' doesn't have a released revision"},
	} {
		t.Run(name, func(t *testing.T) {
			got := publisher(t, s, http.MethodPost, releasesPath, "["+good+","+test.entry+"]")
			expect(t, got, test.status, "")
			if message, _ := got.field(t, "error-list", "message").(string); !strings.Contains(message, test.message) {
				t.Errorf("message %q, want %q", message, test.message)
			}
			if released := s.Releases("my-charm"); len(released) != 0 {
				t.Errorf("released %+v", released)
			}
		})
	}
	expect(t, publisher(t, s, http.MethodPost, releasesPath, "[]"), 400, "api-error")
}

// TestReleaseIgnoresBases: each entry is for all bases of its revision, and the last one counts.
func TestReleaseIgnoresBases(t *testing.T) {
	s := startReleasable(t, server.Options{IgnoreReleaseBase: true})
	s.PutCharm("my-charm", strings.NewReader(charmFile(t, "my-charm", noble)))
	const resources = `"resources":[{"name":"my-image","revision":1},{"name":"my-file","revision":null}]}`
	post := func(revision, base string) string {
		return `{"channel":"edge","revision":` + revision + base + `,` + resources
	}
	const onJammy = `,"base":{"name":"ubuntu","channel":"22.04","architecture":"amd64"}`
	one := map[string]int{"my-image": 1}
	expect(t, publisher(t, s, http.MethodPost, releasesPath, "["+post("2", "")+","+post("1", onJammy)+"]"), 200, "")
	want := []server.Release{
		{Channel: "latest/edge", Base: jammy, Revision: 1, Resources: one},
		{Channel: "latest/edge", Base: noble, Revision: 1, Resources: one},
	}
	if diff := cmp.Diff(want, s.Releases("my-charm")); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
}

// TestRevisionZeroOfACharm is released as any other.
func TestRevisionZeroOfACharm(t *testing.T) {
	s := startReleasable(t, server.Options{FromZero: true})
	expect(t, publisher(t, s, http.MethodPost, releasesPath,
		`[{"channel":"edge","revision":0,"resources":[{"name":"my-image","revision":0},{"name":"my-file",`+
			`"revision":null}]}]`), 200, "")
	want := server.Release{Channel: "latest/edge", Base: noble, Revision: 0, Resources: map[string]int{"my-image": 0}}
	if released := s.Releases("my-charm"); len(released) != 2 || !cmp.Equal(released[1], want) {
		t.Errorf("released %+v", released)
	}
}

// TestResourcesOfARevision: those that this revision of the charm declares.
func TestResourcesOfARevision(t *testing.T) {
	s := startReleasable(t, server.Options{})
	s.PutCharm("my-charm", strings.NewReader(charmtest.File(t,
		"name: my-charm\nresources: {my-image: {type: oci-image, optional: true}}\n", noble)))
	for query, want := range map[string]string{
		"?revision=1": `{"resources":[{"name":"my-file","optional":true,"revision":1,"type":"file"},` +
			`{"name":"my-image","optional":false,"revision":1,"type":"oci-image"}]}`,
		"?revision=2": `{"resources":[{"name":"my-image","optional":true,"revision":2,"type":"oci-image"}]}`,
	} {
		if got := publisher(t, s, http.MethodGet, resources+query, ""); strings.TrimSpace(got.text) != want {
			t.Errorf("%s: got %s, want %s", query, got.text, want)
		}
	}
	expect(t, publisher(t, s, http.MethodGet, resources+"?revision=7", ""), 404, "resource-not-found")
	expect(t, publisher(t, s, http.MethodGet, resources+"?revision=x", ""), 400, "api-error")
}

// TestDefaultTrack is null unless the charm has one.
func TestDefaultTrack(t *testing.T) {
	s, err := server.Start(server.Options{Charms: []server.Charm{{Name: "my-charm"},
		{Name: "other-charm", Tracks: []string{"2"}, DefaultTrack: "2"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for name, want := range map[string]any{"my-charm": nil, "other-charm": "2"} {
		if got := publisher(t, s, http.MethodGet, "/v1/charm/"+name, "").field(t, "metadata", "default-track"); got != want {
			t.Errorf("%s: default track %v, want %v", name, got, want)
		}
	}
	if _, err := server.Start(server.Options{Charms: []server.Charm{{Name: "my-charm", DefaultTrack: "3"}}}); err == nil {
		t.Error("a default track that the charm hasn't is taken")
	}
}

// TestCreateTracks: a guardrail has to allow each of them, or none is made.
func TestCreateTracks(t *testing.T) {
	const path = charmPath + "/tracks"
	s,
		err := server.Start(
		server.Options{Charms: []server.Charm{{Name: "my-charm", Guardrails: []string{`[0-9]+\.[0-9]+`, `lts`}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for body, message := range map[string]string{
		`[{"name":"2.0"},{"name":"2.0-rc"}]`:             "Track 2.0-rc does not match any guardrail",
		`[{"name":"x..y"}]`:                              "Invalid track: x..y",
		`[{"name":"` + strings.Repeat("1", 27) + `.0"}]`: "Invalid track: ",
		`[]`: "[] is too short",
	} {
		got := publisher(t, s, http.MethodPost, path, body)
		expect(t, got, 400, "api-error")
		if !strings.Contains(got.text, message) {
			t.Errorf("%s: %s", body, got.text)
		}
	}
	if got := publisher(t, s, http.MethodPost, path, `[{"name":"2.0"},{"name":"lts"}]`); got.field(t,
		"num-tracks-created") != 2.0 {
		t.Errorf("%s", got.text)
	}
	expect(t, publisher(t, s, http.MethodPost, path, `[{"name":"2.0"}]`), 409, "resource-already-exists")
	if tracks := s.Tracks("my-charm"); !slices.Equal(tracks, []string{"latest", "2.0", "lts"}) {
		t.Errorf("tracks %v", tracks)
	}
	guardrails := publisher(t, s, http.MethodGet, charmPath, "").field(t, "metadata", "track-guardrails")
	if text := fmt.Sprint(guardrails); !strings.Contains(text, `pattern:[0-9]+\.[0-9]+`) ||
		!strings.Contains(text, "created-at:20") {
		t.Errorf("guardrails %s", text)
	}
	grant := server.Grant{Permissions: []string{"package-manage-releases", "package-manage-metadata"}}
	expect(t, do(t, http.MethodPost, s.StoreURL+path, `[{"name":"3.0"}]`, "Authorization",
		authorization(t, s.Mint(grant))), 403, "permission-required")
	if _,
		err := server.Start(
		server.Options{Charms: []server.Charm{{Name: "my-charm", Guardrails: []string{"("}}}}); err == nil {
		t.Error("a guardrail that isn't one is taken")
	}
}

func TestTokensDecideWhoMayRelease(t *testing.T) {
	s := startReleasable(t, server.Options{})
	const body = `[{"channel":"edge","revision":1,"resources":[{"name":"my-image","revision":1},{"name":"my-file",` +
		`"revision":null}]}]`
	for name, test := range map[string]struct {
		grant        server.Grant
		method, path string
		status       int
	}{
		"to view releases": {server.Grant{Permissions: []string{"package-view-releases"}}, "GET",
			releasesPath, 200},
		"to view all": {server.Grant{Permissions: []string{"package-view"}}, "GET", releasesPath, 200},
		"to manage, viewing": {server.Grant{Permissions: []string{"package-manage-releases"}}, "GET",
			releasesPath, 403},
		"to manage releases": {server.Grant{Permissions: []string{"package-manage-releases"}}, "POST",
			releasesPath, 200},
		"to manage revisions": {server.Grant{Permissions: []string{"package-manage-revisions"}}, "POST",
			releasesPath, 403},
		"for the channel":             {server.Grant{Channels: []string{"latest/edge"}}, "POST", releasesPath, 200},
		"for another channel":         {server.Grant{Channels: []string{"latest/stable"}}, "POST", releasesPath, 403},
		"to view revisions, metadata": {server.Grant{Permissions: []string{"package-view-revisions"}}, "GET", charmPath, 403},
		"to view metadata":            {server.Grant{Permissions: []string{"package-view-metadata"}}, "GET", charmPath, 200},
	} {
		t.Run(name, func(t *testing.T) {
			got := do(t, test.method, s.StoreURL+test.path, body, "Authorization", authorization(t, s.Mint(test.grant)))
			expect(t, got, test.status, "")
		})
	}
}

// TestKeysOfCharmcraft: charmcraft's client indexes these keys of an answer without asking whether they are there, and
// craft-store's models require them.
func TestKeysOfCharmcraft(t *testing.T) {
	s := startReleasable(t, server.Options{})
	s.PutRelease("my-charm", server.Release{Channel: "latest/edge/pr-1", Base: noble, Revision: 1,
		Resources: map[string]int{"my-image": 1}})
	const revision = "revision version created-at status errors bases size sha3-384"
	for path, lists := range map[string]map[string]string{
		releasesPath: {
			"channel-map":           "base channel expiration-date progressive resources revision when",
			"channel-map base":      "name channel architecture",
			"package channels":      "name fallback track risk branch",
			"revisions":             revision,
			"revisions bases":       "name channel architecture",
			"channel-map resources": "name revision type",
		},
		revisionsPath: {"revisions": revision, "revisions bases": "name channel architecture"},
		charmPath: {
			"metadata":           "id name private publisher status store type default-track tracks track-guardrails",
			"metadata publisher": "id username display-name validation",
			"metadata tracks":    "name created-at version-pattern automatic-phasing-percentage",
		},
	} {
		got := publisher(t, s, http.MethodGet, path, "")
		for list, keys := range lists {
			var value any
			if err := json.Unmarshal([]byte(got.text), &value); err != nil {
				t.Fatal(err)
			}
			for _, name := range strings.Fields(list) {
				value = first(value).(map[string]any)[name]
			}
			object, _ := first(value).(map[string]any)
			for _, key := range strings.Fields(keys) {
				if _, ok := object[key]; !ok {
					t.Errorf("%s: %s has no %s: %v", path, list, key, object)
				}
			}
		}
	}
}

// first is a list's first element, or the value itself.
func first(value any) any {
	if list, ok := value.([]any); ok && len(list) > 0 {
		return list[0]
	}
	return value
}
