package publish

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

// blobsOf returns blobs of these sizes in bytes.
func blobsOf(sizes ...int64) (blobs []v1.Descriptor) {
	for _, size := range sizes {
		blobs = append(blobs, v1.Descriptor{Size: size})
	}
	return blobs
}

// newResult is about an image that was sent.
func newResult(resource string, revision int) Result {
	digest := "sha256:" + strings.Repeat("ab", 31) + resource[len(resource)-2:]
	return Result{
		Target:       Target{"my-charm", resource},
		Revised:      Revised{Revision: &revision, Created: true},
		RemoteDigest: digest, RemoteImage: "registry.example/charm/x1y2z3/" + resource + "@" + digest,
		SourceDigest: "sha256:" + strings.Repeat("cd", 32),
		Platforms:    []v1.Platform{{OS: "linux", Architecture: "amd64"}},
		Blobs:        blobsOf(5_000_000, 1234), Reused: blobsOf(40_000_000),
		Uploaded: true,
		Took:     1234 * time.Millisecond,
	}
}

// unchangedResult returns the result of a run that found its revision and created nothing.
func unchangedResult(resource string, revision int) Result {
	r := newResult(resource, revision)
	r.Created, r.Uploaded, r.Blobs, r.Reused, r.Took = false, false, nil, nil, 12*time.Millisecond
	return r
}

func TestSummary(t *testing.T) {
	index := newResult("image-01", 7)
	index.Platforms = []v1.Platform{
		{OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "amd64"},
		{OS: "windows", Architecture: "amd64", OSVersion: "10.0.14393"},
	}
	planned := newResult("image-01", 0)
	planned.Revision, planned.DryRun, planned.Created, planned.Uploaded = nil, true, false, false
	file := Result{
		Target: Target{"my-charm", "my-file"}, Size: 1_234_567, Took: 75 * time.Second,
		Revised: Revised{Revision: new(3), Created: true, ContentSent: true}, Uploaded: true, SourceDigest: "sha256:ef",
	}
	fromRegistry := newResult("image-01", 7)
	fromRegistry.SourceDigest = fromRegistry.RemoteDigest
	unknown := Result{Target: Target{"my-charm", "image-01"}, Unknown: true, Took: 40 * time.Millisecond}
	pushed := newResult("image-01", 0)
	pushed.Revision, pushed.Created, pushed.PushOnly = nil, false, true
	plannedFile := Result{Target: Target{"my-charm", "my-file"}, Size: 10, DryRun: true, SourceDigest: "sha256:ef"}
	failed := newResult("image-04", 0)
	failed.Revision, failed.Created, failed.Uploaded = nil, false, false
	failed.Err = errors.New("the store rejected the upload: no | pipes\nand `no` <b>bold</b>")
	leftOut := Result{Target: Target{"my-charm", "my-file"}, LeftOut: "of type file; upload it with the input filepath"}
	plannedSet := []Result{planned, unchangedResult("image-02", 3), leftOut}
	plannedSet[1].DryRun, plannedSet[1].ArchitecturesChanged = true, true
	tests := map[string][]Result{
		"left-out":      {newResult("image-01", 7), leftOut},
		"charm-dry-run": plannedSet,
		"image":         {newResult("image-01", 7)},
		"unchanged":     {unchangedResult("image-01", 7)},
		"index":         {index},
		"registry":      {fromRegistry},
		"unknown":       {unknown},
		"pushed":        {pushed},
		"dry-run":       {planned},
		"file":          {file},
		"file-dry-run":  {plannedFile},
		"charm": {
			newResult("image-01", 7), unchangedResult("image-02", 3), newResult("image-03", 1),
			failed, unchangedResult("image-05", 12), newResult("image-06", 2),
		},
	}
	for name, results := range tests {
		t.Run(name, func(t *testing.T) {
			testkit.Golden(t, "summary."+name+".md", Summary(results, "https://charmhub.io")+toRelease(results))
		})
	}
}

// What comes from outside stays in its cell, and is nothing but text there.
func TestSummaryEscapes(t *testing.T) {
	const hostile = "a|b\n\n# c <script>`x` @all [d](https://e.example) </code></details>"
	r := newResult("image-01", 7)
	for _, text := range []*string{&r.Charm, &r.Resource, &r.RemoteImage, &r.SourceDigest} {
		*text = hostile
	}
	r.Platforms = []v1.Platform{{OS: hostile, Architecture: "amd64"}}
	failed := newResult("image-02", 0)
	failed.Resource, failed.Err = hostile, errors.New(hostile)
	const link = `<a href="https://charmhub[.]io/[^<>" ]*"><code>[^<>]*</code></a>`
	shape := regexp.MustCompile(`^(|### [^<>]*<code>[^<>]*</code> of charm ` + link + `|### Resources of charm ` + link +
		`|\| .* \| .* \||\|(:?---?\|)+|<details(?: open)?><summary><code>[^<>]*</code></summary>|</details>` +
		`|To release it, .*|<pre>charmcraft release [^<>]*</pre>)$`)
	for _, results := range [][]Result{{r}, {r, failed}} {
		for line := range strings.Lines(Summary(results, "https://charmhub.io") + toRelease(results)) {
			line = strings.TrimSuffix(line, "\n")
			if !shape.MatchString(line) || strings.Contains(line, "script>") || strings.Contains(line, "@all") ||
				strings.Contains(line, "](") {
				t.Errorf("hostile text got through: %q", line)
			}
		}
	}
}

func TestLastLine(t *testing.T) {
	recorded := unchangedResult("image-06", 0)
	recorded.ArchitecturesChanged = true
	failed := newResult("image-04", 0)
	failed.Err, failed.Uploaded = errors.New("no"), false
	planned := newResult("image-05", 0)
	planned.Revision, planned.Created, planned.Uploaded = nil, false, false
	leftOut := Result{Target: Target{"my-charm", "my-file"}, LeftOut: "of type file"}
	dry := func(r Result) Result { r.DryRun = true; return r }
	tests := map[string]struct {
		results []Result
		want    string
	}{
		"sent":           {[]Result{newResult("image-01", 7)}, "Done in 2.50 s, 5.0 MB sent"},
		"unchanged":      {[]Result{unchangedResult("image-01", 7)}, "Done in 2.50 s, 0 B sent"},
		"dry":            {[]Result{dry(planned)}, "Dry run: done in 2.50 s, nothing was sent"},
		"dry, unchanged": {[]Result{dry(unchangedResult("image-01", 7))}, "Dry run: done in 2.50 s, nothing was sent"},
		"dry, several": {
			[]Result{dry(planned), dry(recorded), dry(unchangedResult("image-03", 0))},
			"Dry run: done in 2.50 s, nothing was sent: 1 with other architectures, 1 unchanged, 1 would be created",
		},
		"unknown": {[]Result{{Unknown: true}, {Unknown: true, PushOnly: true}},
			"Done in 2.50 s, 0 B sent: 2 unknown"},
		"pushed": {[]Result{{PushOnly: true}, {PushOnly: true}}, "Done in 2.50 s, 0 B sent: 2 pushed"},
		"dry, pushed": {[]Result{dry(Result{PushOnly: true}), dry(planned)},
			"Dry run: done in 2.50 s, nothing was sent: 1 would be created, 1 would be pushed"},
		"one, and one left out": {[]Result{newResult("image-01", 1), leftOut},
			"Done in 2.50 s, 5.0 MB sent: 1 created, 1 left out"},
		"several": {
			[]Result{newResult("image-01", 1), newResult("image-02", 1), unchangedResult("image-03", 0), recorded, failed,
				planned},
			"Done in 2.50 s, 10 MB sent: 2 created, 1 with other architectures, 1 unchanged, 1 would be created, 1 failed",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := LastLine(2500*time.Millisecond, test.results); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestTransferOfAManifest: an image whose blobs the registry has is sent by its manifest alone.
func TestTransferOfAManifest(t *testing.T) {
	t.Parallel()
	r := Result{Uploaded: true, Reused: []v1.Descriptor{{Size: 1000}, {Size: 2000}}}
	if got, want := r.transfer(), "only the manifest; 2 blobs (3.0 kB) reused"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
