package uploads

import (
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestEmptyLine: a line that is empty, as the lost output of a job leaves it, is
// refused in every input that is a list, before anything is asked of Charmhub.
func TestEmptyLine(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	rock := harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))
	file := harness.WriteImageArchive(t, 1000, 1)
	upload := func(inputs ...string) harness.Result { return harness.Upload(t, sandbox, inputs...) }
	release := func(inputs ...string) harness.Result { return harness.Release(t, sandbox, inputs...) }
	for name, test := range map[string]struct {
		run    func(...string) harness.Result
		inputs []string
		want   string
	}{
		"first image": {upload, []string{"resource=" + harness.ImageResource, harness.ImageLines("", rock, "")},
			"input image: line 1 is empty"},
		"last image": {upload, []string{"resource=" + harness.ImageResource, harness.ImageLines(rock, "", "")},
			"input image: line 2 is empty"},
		"image on a line": {upload, []string{"resource=" + harness.ImageResource, "image=" + rock + " "},
			"input image: two blanks or one at the end"},
		"architecture": {upload, []string{"resource=" + harness.FileResource, "filepath=" + file, "architectures=amd64,"},
			"input architectures: entry 2 is empty"},
		"charm file": {release, []string{"charms=\n" + file + "\n", "channel=latest/edge"},
			"input charms: line 1 is empty"},
		"resources": {release, []string{"charm-revision=1", "resources=my-image:1\n\n", "channel=latest/edge"},
			"input resources: line 2 is empty"},
		"charm revision": {release, []string{"charm-revision=1,", "channel=latest/edge"},
			"input charm-revision: entry 2 is empty"},
		"channel": {release, []string{"charm-revision=1", "channel=latest/edge\n\nlatest/beta"},
			"input channel: line 2 is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			r := test.run(test.inputs...)
			r.Failed(t, sandbox, test.want, "; give ", ", or leave ", " empty)")
			if strings.Contains(harness.ErrorText(r), "\n") {
				t.Errorf("more than one sentence: %s", harness.ErrorText(r))
			}
		})
	}
	if asked := sandbox.Requests(); len(asked) > 0 {
		t.Errorf("requests for inputs that are wrong: %v", asked)
	}
}
