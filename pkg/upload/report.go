package upload

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
)

// report is what a run has to tell about one resource, beyond its outputs.
type report struct {
	charm string
	action.Outputs
	dryRun       bool
	recorded     bool            // its architectures changed, and nothing else
	platforms    []v1.Platform   // of an image
	sent, reused []v1.Descriptor // blobs of an image; after a dry run, what would have been
	size         int64           // of a file, in bytes
	took         time.Duration
	err          error // why there is no more to tell
}

// sentBytes returns how much was sent.
func (r *report) sentBytes() int64 {
	if !r.Uploaded {
		return 0
	}
	return r.size + registry.Size(r.sent)
}

// tell hands what came of the resources to the runner, whether they failed or
// not, and ends the log.
func (j *job) tell(took time.Duration, reports ...*report) error {
	var outputs []action.Outputs
	for _, r := range reports {
		r.Failed = r.err != nil
		outputs = append(outputs, r.Outputs)
	}
	if err := j.runner.AddSummary(markdown(reports)); err != nil { // what it would say has happened
		j.log.Warn(err.Error())
	}
	j.log.Info(lastLine(took, reports))
	return j.runner.SetOutputs(outputs...)
}

// lastLine is the log's last line.
func lastLine(took time.Duration, reports []*report) string {
	var sent int64
	var created, updated, unchanged, failed, planned int
	for _, r := range reports {
		sent += r.sentBytes()
		switch {
		case r.err != nil:
			failed++
		case r.RevisionCreated:
			created++
		case r.recorded:
			updated++
		case r.Revision != nil:
			unchanged++
		default:
			planned++
		}
	}
	line := fmt.Sprintf("Done in %s, %s sent", duration(took), humanize.Bytes(uint64(max(0, sent))))
	if len(reports) == 1 {
		return line
	}
	return line + ": " + counts(
		count{created, "created"}, count{updated, "with other architectures"}, count{unchanged, "unchanged"}, count{planned, "would be created"}, count{failed, "failed"})
}

type count struct {
	n    int
	what string
}

// counts leaves out what there is none of.
func counts(all ...count) string {
	var some []string
	for _, c := range all {
		if c.n > 0 {
			some = append(some, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(some, ", ")
}

// duration is a time as people say it, precise enough to compare runs by.
func duration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}

// amount tells number and size of blobs.
func amount(blobs []v1.Descriptor) string {
	return fmt.Sprintf("%s (%s)", plural(len(blobs), "blob"), humanize.Bytes(uint64(max(0, registry.Size(blobs)))))
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
