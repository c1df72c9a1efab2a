package publish

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
)

// Result is what came of one resource.
type Result struct {
	Target
	Revised
	RemoteDigest  string          // of the manifest or index in the registry
	RemoteImage   string          // name@digest in the registry
	SourceDigest  string          // the image's ID or digest where it came from, the digest of a file
	Digests       []v1.Hash       // under which a runtime may report the image
	Platforms     []v1.Platform   // of an image
	Blobs, Reused []v1.Descriptor // of an image: those that were sent, those that the repository had
	Size          int64           // of a file, in bytes
	Uploaded      bool            // a blob, a manifest or the file was sent
	DryRun        bool            // nothing was sent: Blobs, Reused and Size say what would have been
	PushOnly      bool            // no revision was asked for
	Unknown       bool            // no image is recorded under the key
	LeftOut       string          // why a resource of the charm was not published; empty if it was
	Took          time.Duration
	Err           error // why there is no more to say
}

// sent returns how many bytes were sent.
func (r Result) sent() int64 {
	if !r.Uploaded {
		return 0
	}
	return r.Size + registry.Size(r.Blobs)
}

// Reporter is where results are reported to, as [action.Runner] is.
type Reporter interface {
	Logger() *zap.Logger
	AddSummary(markdown string) error
	SetOutputs(outputs ...action.Output) error
}

// Report ends the log, and writes the step's summary and its outputs.
func Report(to Reporter, took time.Duration, results []Result) error {
	if err := to.AddSummary(summary(results)); err != nil { // what it would say has happened
		to.Logger().Warn(err.Error())
	}
	to.Logger().Info(lastLine(took, results))
	outputs, err := outputs(results)
	if err != nil {
		return err
	}
	return to.SetOutputs(outputs...)
}

// outputs returns those of the step. The ones about one resource are empty where
// there are several, or none: a reader is never left with an older value. What was
// created or sent is so whichever resource it was for, and whether that failed
// afterwards.
func outputs(results []Result) ([]action.Output, error) {
	type resource struct {
		Name         string    `json:"name"`
		Revision     *int      `json:"revision,omitempty"`
		Created      bool      `json:"created"`
		RemoteDigest string    `json:"remote-digest,omitempty"`
		RemoteImage  string    `json:"remote-image,omitempty"`
		SourceDigest string    `json:"source-digest,omitempty"`
		Digests      []v1.Hash `json:"digests,omitempty"`
		Uploaded     bool      `json:"uploaded"`
	}
	created, uploaded := false, false
	resources, flags := []resource{}, []string{}
	var one Result
	revision, flag := "", ""
	published := published(results)
	for _, r := range published {
		created, uploaded = created || r.Created, uploaded || r.Uploaded
		if r.Err != nil || r.Unknown {
			continue
		}
		resources = append(resources, resource{r.Resource, r.Revision, r.Created, r.RemoteDigest, r.RemoteImage, r.SourceDigest, r.Digests, r.Uploaded})
		if r.Revision != nil {
			flags = append(flags, fmt.Sprintf("--resource=%s:%d", r.Resource, *r.Revision))
		}
		if len(published) == 1 {
			one = r
		}
	}
	if one.Revision != nil {
		revision, flag = strconv.Itoa(*one.Revision), strings.TrimPrefix(flags[0], "--resource=")
	}
	list, err := json.Marshal(resources)
	digests := ""
	if len(one.Digests) > 0 {
		text, _ := json.Marshal(one.Digests) // strings can be marshalled
		digests = string(text)
	}
	return []action.Output{
		{Name: "revision", Value: revision},
		{Name: "revision-created", Value: strconv.FormatBool(created)},
		{Name: "remote-digest", Value: one.RemoteDigest},
		{Name: "remote-image", Value: one.RemoteImage},
		{Name: "source-digest", Value: one.SourceDigest},
		{Name: "digests", Value: digests},
		{Name: "uploaded", Value: strconv.FormatBool(uploaded)},
		{Name: "resource-flag", Value: flag},
		{Name: "resources", Value: string(list)},
		{Name: "resource-flags", Value: strings.Join(flags, " ")},
	}, err
}

// published returns the results of resources that were not left out.
func published(results []Result) []Result {
	return slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.LeftOut != "" })
}

// lastLine is the log's last line.
func lastLine(took time.Duration, results []Result) string {
	states := []string{"created", "with other architectures", "unchanged", "pushed", "would be created", "failed", "left out"}
	counts := map[string]int{}
	var sent int64
	for _, r := range results {
		sent += r.sent()
		switch {
		case r.LeftOut != "":
			counts["left out"]++
		case r.Err != nil:
			counts["failed"]++
		case r.Created:
			counts["created"]++
		case r.Corrected:
			counts["with other architectures"]++
		case r.Revision != nil:
			counts["unchanged"]++
		case r.PushOnly:
			counts["pushed"]++
		default:
			counts["would be created"]++
		}
	}
	line := fmt.Sprintf("Done in %s, %s sent", action.Duration(took), action.Size(sent))
	if dryRun(results) {
		line = fmt.Sprintf("Dry run: done in %s, nothing was sent", action.Duration(took))
	}
	if len(results) == 1 {
		return line
	}
	var some []string
	for _, state := range states {
		if counts[state] > 0 {
			some = append(some, fmt.Sprintf("%d %s", counts[state], state))
		}
	}
	return line + ": " + strings.Join(some, ", ")
}

func dryRun(results []Result) bool { return len(results) > 0 && results[0].DryRun }
