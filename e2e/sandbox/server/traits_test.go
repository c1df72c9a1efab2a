package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// numbers returns the numbers of a list of revisions, in its order.
func numbers(t *testing.T, listed reply) (all []int) {
	t.Helper()
	var answer map[string][]struct{ Revision int }
	if err := json.Unmarshal([]byte(listed.text), &answer); err != nil {
		t.Fatalf("%v: %+v", err, listed)
	}
	for _, r := range answer["revisions"] {
		all = append(all, r.Revision)
	}
	return all
}

func TestOrderOfRevisions(t *testing.T) {
	for newestFirst, want := range map[bool][]int{false: {1, 2, 3}, true: {3, 2, 1}} {
		s := start(t, server.Options{NewestFirst: newestFirst})
		for n := range 3 {
			s.PutResource("my-charm", "my-file", strings.NewReader(fmt.Sprint(n)))
		}
		if got := numbers(t, publisher(t, s, http.MethodGet, filePath+"/revisions", "")); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// TestMergedBases are in the order of the request, unless they are to be sorted.
func TestMergedBases(t *testing.T) {
	for sorted, want := range map[bool]string{false: `["amd64","all"]`, true: `["all","amd64"]`} {
		s := start(t, server.Options{SortedBases: sorted})
		s.PutResource("my-charm", "my-file", strings.NewReader("a file"))
		expect(t, publisher(t, s, http.MethodPatch, filePath+"/revisions",
			`{"resource-revision-updates":[{"revision":1,"bases":[{"architectures":["amd64"]},{"architectures":["all"]}]}]}`),
			200, "")
		if got := publisher(t, s, http.MethodGet, filePath+"/revisions", ""); !strings.Contains(got.text,
			`"architectures":`+want) {
			t.Errorf("sorted %t: %s", sorted, got.text)
		}
	}
}

// TestListsLagByTheClock: a revision that the store has isn't in any list until the time has passed.
func TestListsLagByTheClock(t *testing.T) {
	s := startEmpty(t, server.Options{Lag: 10 * time.Second})
	s.PutCharm("my-charm", strings.NewReader(charmFile(t, "my-charm", jammy))) // lists have at once what tests put there
	for _, review := range []string{submitCharm(t, s, charmFile(t, "my-charm", noble)),
		submit(t, s, send(t, s, "a file"))} {
		pollReview(t, s, review)
		if status, _ := pollReview(t, s, review); status != "approved" {
			t.Fatalf("it is %v", status)
		}
	}
	for _, step := range []struct {
		passes        time.Duration
		charm, public []int
	}{
		{0, []int{1}, nil}, {9 * time.Second, []int{1}, nil}, {time.Second, []int{2, 1}, []int{1}},
	} {
		s.AdvanceClock(step.passes)
		got := [][]int{
			numbers(t, publisher(t, s, http.MethodGet, revisionsPath, "")),
			numbers(t, publisher(t, s, http.MethodGet, filePath+"/revisions", "")),
			numbers(t, do(t, http.MethodGet, s.StoreURL+"/v2/charms/resources/my-charm/my-file/revisions", "")),
		}
		if diff := cmp.Diff([][]int{step.charm, step.public, step.public}, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step.passes, diff)
		}
	}
}

// TestChannelMapLagsByTheClock: a release isn't on the channel map until the time has passed, and then the one after it
// isn't.
func TestChannelMapLagsByTheClock(t *testing.T) {
	s := startEmpty(t, server.Options{ReleaseLag: 10 * time.Second})
	s.PutCharm("my-charm", strings.NewReader(charmFile(t, "my-charm", jammy)))
	s.PutCharm("my-charm", strings.NewReader(charmFile(t, "my-charm", jammy, noble)))
	s.PutResource("my-charm", "my-image", strings.NewReader("{}"))
	release := func(revision int) {
		t.Helper()
		got := publisher(t, s, http.MethodPost, releasesPath, fmt.Sprintf(`[{"revision":%d,"channel":"latest/edge",`+
			`"resources":[{"name":"my-image","revision":1},{"name":"my-file","revision":null}]}]`, revision))
		if got.status != http.StatusOK {
			t.Fatal(got.text)
		}
	}
	for n, step := range []struct {
		passes   time.Duration
		releases int // revision; 0 for none
		shows    any
	}{
		{0, 1, nil}, {6 * time.Second, 2, nil}, {5 * time.Second, 0, 1.0}, {5 * time.Second, 0, 2.0},
	} {
		s.AdvanceClock(step.passes)
		if step.releases > 0 {
			release(step.releases)
		}
		got := publisher(t, s, http.MethodGet, releasesPath, "")
		if shown := got.field(t, "channel-map", "revision"); shown != step.shows {
			t.Errorf("at step %d the channel map shows %v, want %v", n, shown, step.shows)
		}
	}
	if now := s.Releases("my-charm"); len(now) != 2 || now[0].Revision != 2 || now[1].Revision != 2 {
		t.Errorf("released %v", now)
	}
}

// TestRowsOfResources: a charm revision 1 declares an image and a file, 2 the image alone.
func TestRowsOfResources(t *testing.T) {
	rows := func(s *server.Server, query string) (all []string) {
		t.Helper()
		var answer struct {
			Resources []struct {
				Name     string
				Revision int
			}
		}
		got := publisher(t, s, http.MethodGet, resources+query, "")
		if err := json.Unmarshal([]byte(got.text), &answer); err != nil {
			t.Fatal(err)
		}
		for _, r := range answer.Resources {
			all = append(all, fmt.Sprint(r.Name, " ", r.Revision))
		}
		slices.Sort(all)
		return all
	}
	const file, image, newer = "my-file 1", "my-image 1", "my-image 2"
	for which, want := range map[server.Rows][][]string{ // without a revision, of 1, and of 2
		server.RowsOfRevision: {{file, image, newer}, {file, image}, {newer}},
		server.RowsOfNewest:   {{newer}, nil, {newer}},
		server.RowsInPart:     {{image, newer}, {image}, {newer}},
		server.RowsOfOthers:   {{newer}, {newer}, {newer}},
		server.RowsOfAll:      {{file, image, newer}, {file, image, newer}, {file, image, newer}},
	} {
		t.Run(string(which), func(t *testing.T) {
			s := startReleasable(t, server.Options{Rows: which})
			s.PutCharm("my-charm",
				strings.NewReader(charmtest.File(t, "name: my-charm\nresources: {my-image: {type: oci-image}}\n", noble)))
			got := [][]string{rows(s, ""), rows(s, "?revision=1"), rows(s, "?revision=2")}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
	if s, err := server.Start(server.Options{Rows: "odd"}); err == nil {
		_ = s.Close()
		t.Error("rows that don't exist are taken")
	}
}

func TestUnnumberedDuplicates(t *testing.T) {
	s := startEmpty(t, server.Options{UnnumberedDuplicates: true})
	s.PutCharm("my-charm", strings.NewReader(charmFile(t, "my-charm", jammy)))
	review := submitCharm(t, s, charmFile(t, "my-charm", jammy))
	pollReview(t, s, review)
	message, _ := publisher(t, s, http.MethodGet, review, "").field(t, "revisions", "errors", "message").(string)
	if !strings.HasSuffix(message, ") already exists in the database.") {
		t.Errorf("it is rejected with %q", message)
	}
}

func TestStatuses(t *testing.T) {
	s := start(t, server.Options{Statuses: []string{"new", "needs_review"}, NeverReview: true})
	review := submit(t, s, send(t, s, "content"))
	for i, want := range [][2]any{{"new", nil}, {"needs_review", 1.0}, {"needs_review", 1.0}, {"needs_review", 1.0}} {
		if status, revision := pollReview(t, s, review); status != want[0] || revision != want[1] {
			t.Errorf("look %d: %v %v, want %v", i+1, status, revision, want)
		}
	}
}

// TestTimeouts: the first upload and the first request for a revision are taken, and answered 504.
func TestTimeouts(t *testing.T) {
	s := start(t, server.Options{Timeouts: true})
	const upload = "--b\r\nContent-Disposition: form-data; name=\"binary\"; filename=\"f\"\r\n\r\nx\r\n--b--\r\n"
	post := func() reply {
		return do(t, http.MethodPost, s.StorageURL+"/unscanned-upload/", upload, "Content-Type",
			"multipart/form-data; boundary=b")
	}
	expect(t, post(), 504, "")
	id := send(t, s, "content") // the second one
	body := `{"upload-id":"` + id + `","type":"file"}`
	expect(t, publisher(t, s, http.MethodPost, filePath+"/revisions", body), 504, "")
	expect(t, publisher(t, s, http.MethodPost, filePath+"/revisions", body), 409, "upload-already-used")
	for range 2 {
		publisher(t, s, http.MethodGet, filePath+"/revisions", "")
	}
	if n := len(s.Revisions("my-charm", "my-file")); n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
	expect(t, post(), 200, "")
	expect(t, post(), 504, "")
}

// TestOutages: of seven requests to the registry one fails, each time in another way.
func TestOutages(t *testing.T) {
	s := start(t, server.Options{Outages: true})
	repository, _, login := credentials(t, s, "my-charm", "my-image")
	blob := s.RegistryURL + "/v2/" + repository.RepositoryStr() + "/blobs/sha256:" + strings.Repeat("0", 64)
	token := bearer(t, s, repository, login) // the first request
	statuses, wrong := map[int]int{}, 0
	for range 21 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, blob, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		statuses[response.StatusCode]++
		scope := fmt.Sprintf(`scope="repository:%s:pull",error="insufficient_scope"`, repository.RepositoryStr())
		if strings.Contains(response.Header.Get("WWW-Authenticate"), scope) {
			wrong++
		}
	}
	if diff := cmp.Diff(map[int]int{404: 18, 500: 1, 503: 1, 401: 1}, statuses); diff != "" || wrong != 1 {
		t.Errorf("%d lack the scope; statuses (-want +got):\n%s", wrong, diff)
	}
}

func TestNullAnswers(t *testing.T) {
	s := startReleasable(t, server.Options{NullAnswers: true})
	got := publisher(t, s, http.MethodPost, releasesPath,
		`[{"channel":"edge","revision":1,"resources":[{"name":"my-image","revision":1},{"name":"my-file","revision":null}]}]`)
	if strings.TrimSpace(got.text) != `{"released":[{"channel":null,"resources":null,"revision":null}]}` ||
		len(s.Releases("my-charm")) != 2 {
		t.Errorf("got %s", got.text)
	}
}

// TestOmittedResources stay as they are on the channel, unless they are dropped. Without any there, they can't be left
// out.
func TestOmittedResources(t *testing.T) {
	for drop, want := range map[bool]map[string]int{false: {"my-image": 1, "my-file": 1}, true: {"my-image": 1}} {
		s := startReleasable(t, server.Options{DropOmitted: drop})
		s.PutResource("my-charm", "my-file", strings.NewReader("a file"))
		const image = `{"name":"my-image","revision":1}`
		for channel, resources := range map[string]string{"edge": image + `,{"name":"my-file","revision":1}`, "beta": image} {
			expect(t, publisher(t, s, http.MethodPost, releasesPath,
				`[{"channel":"`+channel+`","revision":1,"resources":[`+resources+`]}]`), 200, "")
		}
		expect(t, publisher(t, s, http.MethodPost, releasesPath, `[{"channel":"edge","revision":1,"resources":[`+image+`]}]`),
			200, "")
		for _, r := range s.Releases("my-charm") {
			want := want
			if r.Channel == "latest/beta" {
				want = map[string]int{"my-image": 1}
			}
			if diff := cmp.Diff(want, r.Resources); diff != "" {
				t.Errorf("drop %t, %s (-want +got):\n%s", drop, r.Channel, diff)
			}
		}
		status := map[bool]int{false: 200, true: 400}[drop]
		expect(t, publisher(t, s, http.MethodPost, releasesPath, `[{"channel":"edge","revision":1,"resources":[]}]`),
			status, "")
		expect(t, publisher(t, s, http.MethodPost, releasesPath, `[{"channel":"stable","revision":1,"resources":[]}]`), 400,
			"")
	}
}

func TestOutdatedToken(t *testing.T) {
	s := start(t, server.Options{OutdatedToken: true})
	got := publisher(t, s, http.MethodGet, resources, "")
	expect(t, got, 400, "BadRequest")
	if message := got.field(t, "error-list", "message"); message != "Invalid macaroon" {
		t.Errorf("message %q", message)
	}
	expect(t, do(t, http.MethodGet, s.StoreURL+resources, "", "Authorization", authorization(t, s.Mint(server.Grant{}))),
		200, "")
}

func TestProfiles(t *testing.T) {
	var all []server.Options
	for _, name := range []string{server.Production, server.Rude, server.Strict} {
		options, err := server.Profile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range all {
			if cmp.Equal(other, options) {
				t.Errorf("%s is another profile", name)
			}
		}
		all = append(all, options)
		start(t, options)
	}
	if !cmp.Equal(all[0], server.Options{}) {
		t.Errorf("production isn't the default: %+v", all[0])
	}
	if _, err := server.Profile("polite"); err == nil || !strings.Contains(err.Error(), "production, rude, strict") {
		t.Errorf("a profile that doesn't exist: %v", err)
	}
}
