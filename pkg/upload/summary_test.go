package upload

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/action"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

func blobsOf(sizes ...int64) (blobs []v1.Descriptor) {
	for _, size := range sizes {
		blobs = append(blobs, v1.Descriptor{Size: size})
	}
	return blobs
}

// newReport is about an image that was sent.
func newReport(resource string, revision int) *report {
	digest := "sha256:" + strings.Repeat("ab", 31) + resource[len(resource)-2:]
	return &report{
		charm: "my-charm",
		Outputs: action.Outputs{
			Resource: resource, Revision: &revision, RevisionCreated: true, Uploaded: true,
			RemoteDigest: digest, RemoteImage: "registry.example/charm/x1y2z3/" + resource + "@" + digest,
			SourceDigest: "sha256:" + strings.Repeat("cd", 32),
		},
		platforms: []v1.Platform{{OS: "linux", Architecture: "amd64"}},
		sent:      blobsOf(5_000_000, 1234), reused: blobsOf(40_000_000),
		took: 1234 * time.Millisecond,
	}
}

func unchangedReport(resource string, revision int) *report {
	r := newReport(resource, revision)
	r.RevisionCreated, r.Uploaded, r.sent, r.reused, r.took = false, false, nil, nil, 12*time.Millisecond
	return r
}

func TestSummary(t *testing.T) {
	index := newReport("image-01", 7)
	index.platforms = []v1.Platform{
		{OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "amd64"},
		{OS: "windows", Architecture: "amd64", OSVersion: "10.0.14393"},
	}
	planned := newReport("image-01", 0)
	planned.Revision, planned.dryRun, planned.RevisionCreated, planned.Uploaded = nil, true, false, false
	file := &report{
		charm: "my-charm", size: 1_234_567, took: 75 * time.Second,
		Outputs: action.Outputs{Resource: "my-file", Revision: new(3), RevisionCreated: true, Uploaded: true, SourceDigest: "sha256:ef"},
	}
	plannedFile := &report{charm: "my-charm", size: 10, dryRun: true, Outputs: action.Outputs{Resource: "my-file", SourceDigest: "sha256:ef"}}
	failed := newReport("image-04", 0)
	failed.Revision, failed.RevisionCreated, failed.Uploaded = nil, false, false
	failed.err = errors.New("the store rejected the upload: no | pipes\nand `no` <b>bold</b>")
	tests := map[string][]*report{
		"image":        {newReport("image-01", 7)},
		"unchanged":    {unchangedReport("image-01", 7)},
		"index":        {index},
		"dry-run":      {planned},
		"file":         {file},
		"file-dry-run": {plannedFile},
		"charm": {
			newReport("image-01", 7), unchangedReport("image-02", 3), newReport("image-03", 1),
			failed, unchangedReport("image-05", 12), newReport("image-06", 2),
		},
	}
	for name, reports := range tests {
		t.Run(name, func(t *testing.T) { golden(t, "summary."+name+".md", markdown(reports)) })
	}
}

// What comes from outside stays in its cell, and is nothing but text there.
func TestSummaryEscapes(t *testing.T) {
	const hostile = "a|b\n\n# c <script>`x` @all [d](https://e.example) </code></details>"
	r := newReport("image-01", 7)
	for _, text := range []*string{&r.charm, &r.Resource, &r.RemoteImage, &r.SourceDigest} {
		*text = hostile
	}
	r.platforms = []v1.Platform{{OS: hostile, Architecture: "amd64"}}
	failed := newReport("image-02", 0)
	failed.Resource, failed.err = hostile, errors.New(hostile)
	shape := regexp.MustCompile(`^(|### .*|\| .* \| .* \||\|(:?---?\|)+|<details><summary><code>[^<>]*</code></summary>|</details>|Find it .*|` +
		"```(sh)?" + `|kubectl .*|'NAMESPACE.*|  grep( -e [a-z0-9:]+)+)$`)
	for _, reports := range [][]*report{{r}, {r, failed}} {
		for line := range strings.Lines(markdown(reports)) {
			line = strings.TrimSuffix(line, "\n")
			if !shape.MatchString(line) || strings.Contains(line, "script>") || strings.Contains(line, "@all") || strings.Contains(line, "](") {
				t.Errorf("hostile text got through: %q", line)
			}
		}
	}
}

func TestLastLine(t *testing.T) {
	recorded := unchangedReport("image-06", 0)
	recorded.recorded = true
	failed := newReport("image-04", 0)
	failed.err, failed.Uploaded = errors.New("no"), false
	planned := newReport("image-05", 0)
	planned.Revision, planned.RevisionCreated, planned.Uploaded = nil, false, false
	tests := map[string]struct {
		reports []*report
		want    string
	}{
		"sent":      {[]*report{newReport("image-01", 7)}, "Done in 2.50 s, 5.0 MB sent"},
		"unchanged": {[]*report{unchangedReport("image-01", 7)}, "Done in 2.50 s, 0 B sent"},
		"several": {
			[]*report{newReport("image-01", 1), newReport("image-02", 1), unchangedReport("image-03", 0), recorded, failed, planned},
			"Done in 2.50 s, 10 MB sent: 2 created, 1 with other architectures, 1 unchanged, 1 would be created, 1 failed",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := lastLine(2500*time.Millisecond, test.reports); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
