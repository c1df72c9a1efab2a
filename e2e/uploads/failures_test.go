package uploads

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// failure is a run that has to fail.
type failure struct {
	options server.Options
	inputs  func(*testing.T, *server.Server) []string
	want    []string // fragments of the one error
	early   bool     // before anything is asked of Charmhub
}

func TestFailures(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	given := func(inputs ...string) func(*testing.T, *server.Server) []string {
		return func(*testing.T, *server.Server) []string { return inputs }
	}
	minted := func(grant server.Grant) func(*testing.T, *server.Server) []string {
		return func(_ *testing.T, sandbox *server.Server) []string {
			return []string{"resource=" + harness.ImageResource, "image=" + archive, "store-token=" + sandbox.Mint(grant)}
		}
	}
	engine := func(digest string, ids ...string) func(*testing.T, *server.Server) []string {
		return func(t *testing.T, _ *server.Server) []string {
			t.Helper()
			return []string{"resource=" + harness.ImageResource, "digest=" + digest, harness.FakeEngine(t, ids...)}
		}
	}
	image := []string{"resource=" + harness.ImageResource, "image=" + archive}
	file := func(path string) []string { return []string{"resource=" + harness.FileResource, "filepath=" + path} }
	folder := t.TempDir()
	missing := filepath.Join(folder, "missing")

	tests := map[string]failure{
		"token that is none": {
			inputs: given(append(image, "store-token=not a token")...), early: true,
			want: []string{"cannot read the store token", "charmcraft login --export"},
		},
		"names without end": {
			inputs: given("charm="+strings.Repeat("c", 100_000), "resource="+strings.Repeat("r", 100_000), "image="+archive),
			early:  true,
			want:   []string{"input charm", "40 characters at most", "input resource", "255 characters at most"},
		},
		"no token": {
			inputs: given(append(image, "CHARMCRAFT_AUTH=")...), early: true,
			want: []string{"charmcraft login --export", "store-token: ${{ secrets."},
		},
		"forged token": {
			inputs: minted(server.Grant{Forged: true}),
			want:   []string{"401", "no longer valid", "charmcraft login --export"},
		},
		"expired token": {
			inputs: minted(server.Grant{Life: -time.Hour}),
			want:   []string{"401", "expired", "charmcraft login --export"},
		},
		"expired token with a discharge": {
			inputs: minted(server.Grant{Format: server.FormatSSO, Life: -time.Hour}),
			want:   []string{"401", "expired", "charmcraft login --export"},
		},
		"not an owner": {
			inputs: minted(server.Grant{Account: "somebody"}),
			want:   []string{"403", "'my-charm'", "publisher or of one of its collaborators", "that of 'somebody'"},
		},
		"token for another charm": {
			inputs: minted(server.Grant{Charms: []string{"other-charm"}}),
			want:   []string{"403", "for other charms", "--charm=my-charm", "the charms other-charm"},
		},
		"token that may only look": {
			inputs: minted(server.Grant{Permissions: []string{"package-view-revisions"}}),
			want:   []string{"403", "lacks the permission package-manage-revisions", "--permission=package-manage-revisions"},
		},
		"token that may not look": {
			inputs: minted(server.Grant{Permissions: []string{"package-manage-revisions"}}),
			want: []string{"403", "lacks the permission package-view-revisions", "--permission=package-view-revisions",
				"the permissions package-manage-revisions"},
		},
		"unknown charm": {
			inputs: given(append(image, "charm=unknown")...),
			want:   []string{"knows no charm 'unknown'", "check the name"},
		},
		"unknown resource": {
			inputs: given("resource=unknown", "image="+archive),
			want:   []string{"has no resource 'unknown'", "the charm has my-image, my-file", "declares it first"},
		},
		"unknown resource for a file": {
			inputs: given("resource=unknown", "filepath="+archive),
			want:   []string{"has no resource 'unknown'", "the charm has my-image, my-file", "declares it first"},
		},
		"image for a file": {
			inputs: given("resource="+harness.FileResource, "image="+archive),
			want:   []string{"'my-file' of charm 'my-charm' is of type file", "use the input filepath"},
		},
		"file for an image": {
			inputs: given("resource="+harness.ImageResource, "filepath="+archive),
			want:   []string{"'my-image' of charm 'my-charm' is of type oci-image", "use the input digest or image"},
		},
		"no engine": {
			inputs: func(t *testing.T, _ *server.Server) []string {
				t.Helper()
				return []string{"resource=" + harness.ImageResource, "digest=" + harness.SomeDigest, harness.NoEngine(t)}
			},
			want: []string{"not in the charm's repository", "no container engine answers at", "start one, or set DOCKER_HOST"},
		},
		"no engine for a short digest": {
			inputs: func(t *testing.T, _ *server.Server) []string {
				t.Helper()
				return []string{"resource=" + harness.ImageResource, "digest=" + harness.SomeDigest[7:19], harness.NoEngine(t)}
			},
			want: []string{"no container engine answers at", "start one, or set DOCKER_HOST"},
		},
		"unknown digest": {
			inputs: engine(harness.SomeDigest, harness.OtherID),
			want: []string{harness.SomeDigest, "neither the charm's repository", "nor the container engine",
				"build, load or pull it"},
		},
		"unknown short digest": {
			inputs: engine("aaaaaaaaaaaa", harness.OtherID),
			want:   []string{"aaaaaaaaaaaa", "container engine", "build, load or pull it"},
		},
		"ambiguous short digest": {
			inputs: engine(harness.SomeDigest[7:19], harness.OtherID, harness.SomeDigest),
			want:   []string{"several images", "write more digits", harness.SomeDigest, harness.OtherID},
		},
		"tag": {
			inputs: given("resource="+harness.ImageResource, "digest=my-image:latest"), early: true,
			want: []string{"my-image:latest", "tag", "docker inspect --format '{{.Id}}'"},
		},
		"digest and file": {
			inputs: given("resource="+harness.ImageResource, "digest="+harness.SomeDigest, "filepath="+archive), early: true,
			want: []string{"inputs digest, filepath: given together", "keep the one"},
		},
		"neither digest nor file": {
			inputs: given("resource=" + harness.ImageResource), early: true,
			want: []string{"inputs digest, image, filepath, metadata: none is given", "give digest or image"},
		},
		"everything wrong": {
			inputs: given("charm=My_Charm", "resource=", "CHARMCRAFT_AUTH=", "store-url=http://example.com", "dry-run=perhaps"),
			early:  true,
			want: []string{
				"charm's name has lower-case", "input resource: missing", "inputs digest, image, filepath, metadata: none is given",
				"store-token:", "input store-url: the URL doesn't start with https://", "write true or false",
			},
		},
		"missing file": {
			inputs: given(file(missing)...),
			want: []string{missing, "the workspace has no such file; check the path, and that an earlier step of this job " +
				"wrote the file"},
		},
		"folder for a file": {
			inputs: given(file(folder)...),
			want:   []string{folder, "is a folder; give a file"},
		},
		"missing image": {
			inputs: given("resource="+harness.ImageResource, "image="+missing),
			want: []string{missing, "the workspace has no such file; check the path, and that an earlier step of this job " +
				"wrote the file"},
		},
		"file that is no image": {
			inputs: func(t *testing.T, _ *server.Server) []string {
				t.Helper()
				path := filepath.Join(t.TempDir(), "image.tar")
				harness.WriteFile(t, path, strings.Repeat("no image", 1000))
				return []string{"resource=" + harness.ImageResource, "image=" + path}
			},
			want: []string{"image.tar", "damaged, cut short or no image at all"},
		},
		"rejected image": {
			inputs:  given(image...),
			options: server.Options{RejectReason: "No malware, please."},
			want: []string{"rejected the upload: No malware, please (review-rejected); correct what it names, and run this " +
				"again"},
		},
		"rejected file": {
			inputs:  given(file(archive)...),
			options: server.Options{RejectReason: "No malware, please."},
			want: []string{"rejected the upload: No malware, please (review-rejected); correct what it names, and run this " +
				"again"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.options.InMemory = true
			sandbox := harness.StartSandbox(t, test.options)
			r := harness.Upload(t, sandbox, test.inputs(t, sandbox)...)
			r.Failed(t, sandbox, test.want...)
			if asked := sandbox.Requests(); test.early && len(asked) > 0 {
				t.Errorf("requests for inputs that are wrong: %v", asked)
			}
		})
	}
}

// stopInReview runs until Charmhub was asked twice about its review, and then
// stops the run.
func stopInReview(t *testing.T, sandbox *server.Server, inputs ...string) harness.Result {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	looks := make(chan struct{}, 100)
	sandbox.Fault(func(r server.Request) *server.Fault {
		if strings.HasSuffix(r.Path, "/revisions/review") {
			looks <- struct{}{}
			if len(looks) == 2 {
				stop()
			}
		}
		return nil
	})
	r := harness.UploadContext(ctx, t, sandbox, inputs...)
	sandbox.Fault(nil)
	return r
}

// TestReviewWithoutEnd: a run that waits for a review can be stopped, and says
// what it was doing. That it gives up by itself is tested where the time for
// that can be short.
func TestReviewWithoutEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "content")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, NeverReview: true})
	r := stopInReview(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
	r.Failed(t, sandbox, "stopped while creating the revision", "running again picks it up")
}
