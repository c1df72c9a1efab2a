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

// Result is the outcome for one resource.
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
	LeftOut       string          // why the resource is not published; empty if it is
	Took          time.Duration
	Err           error // why publishing failed; the other fields say what was done before
}

// bytesSent returns the number of bytes that were sent.
func (r Result) bytesSent() int64 {
	if !r.Uploaded {
		return 0
	}
	return r.Size + registry.Size(r.Blobs)
}

// Reporter takes reports. [action.Runner] implements it.
type Reporter interface {
	Logger() *zap.Logger
	AddSummary(markdown string) error
	SetOutputs(outputs ...action.Output) error
}

// Report ends the log, and writes the step's summary and its outputs. The website has a page for each charm; it may be
// empty.
func Report(to Reporter, took time.Duration, website string, results []Result) error {
	if err := to.AddSummary(Summary(results, website) + toRelease(results)); err != nil { // not worth a failure
		to.Logger().Warn(err.Error())
	}
	to.Logger().Info(LastLine(took, results))
	outputs, err := Outputs(results)
	if err != nil {
		return err
	}
	return to.SetOutputs(outputs...)
}

// Outputs returns the outputs of the step. Outputs about one resource are empty if there are several or none, so that
// no older value stays. The outputs about created revisions and sent bytes cover all resources, including failed ones.
func Outputs(results []Result) ([]action.Output, error) {
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
	published := withoutLeftOut(results)
	for _, r := range published {
		created, uploaded = created || r.Created, uploaded || r.Uploaded
		if r.Err != nil || r.Unknown {
			continue
		}
		resources = append(
			resources,
			resource{r.Resource, r.Revision, r.Created, r.RemoteDigest, r.RemoteImage, r.SourceDigest, r.Digests, r.Uploaded},
		)
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

// withoutLeftOut returns the results of resources that weren't left out.
func withoutLeftOut(results []Result) []Result {
	return slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.LeftOut != "" })
}

// LastLine returns the last line of the log.
func LastLine(took time.Duration, results []Result) string {
	states := []string{
		"created",
		"with other architectures",
		"unchanged",
		"pushed",
		"would be created",
		"would be pushed",
		"unknown",
		"failed",
		"left out",
	}
	counts := map[string]int{}
	var sent int64
	for _, r := range results {
		sent += r.bytesSent()
		switch {
		case r.LeftOut != "":
			counts["left out"]++
		case r.Err != nil:
			counts["failed"]++
		case r.Unknown:
			counts["unknown"]++
		case r.Created:
			counts["created"]++
		case r.ArchitecturesChanged:
			counts["with other architectures"]++
		case r.Revision != nil:
			counts["unchanged"]++
		case r.PushOnly && r.DryRun:
			counts["would be pushed"]++
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
	if len(results) < 2 {
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

// dryRun reports whether the results are those of a dry run.
func dryRun(results []Result) bool { return len(results) > 0 && results[0].DryRun }

// Summary returns a table of each result, as Markdown. Several begin with a table of all, and fold the tables of those
// that didn't fail. Names and digests come from outside, so everything is escaped. The website has a page for each
// charm; it may be empty.
func Summary(results []Result, website string) string {
	var b strings.Builder
	if len(results) == 1 {
		fmt.Fprintf(
			&b,
			"### %s%s of charm %s\n\n%s",
			titlePrefix(
				results,
			),
			action.Code(results[0].Resource),
			action.CharmName(website, results[0].Charm),
			results[0].table(),
		)
	} else {
		b.WriteString(overview(results, website))
		for _, r := range withoutLeftOut(results) {
			folded := "<details>"
			if r.Err != nil {
				folded = "<details open>"
			}
			fmt.Fprintf(&b, "%s<summary>%s</summary>\n\n%s\n</details>\n\n", folded, action.Code(r.Resource), r.table())
		}
	}
	return b.String()
}

// overview returns a table with a row for each resource.
func overview(results []Result, website string) string {
	var b strings.Builder
	if len(results) > 0 {
		fmt.Fprintf(&b, "### %sResources of charm %s\n\n", titlePrefix(results), action.CharmName(website, results[0].Charm))
	}
	b.WriteString("| Resource | Revision | Remote digest | Sent | Time |\n|---|---|---|---|---|\n")
	for _, r := range results {
		digest, sent, took := short(r.RemoteDigest), action.Size(r.bytesSent()), action.Duration(r.Took)
		if r.Err != nil {
			digest, sent = "", ""
		}
		if r.LeftOut != "" {
			sent, took = "", ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", action.Code(r.Resource), r.state(), action.Code(digest), sent, took)
	}
	return b.String() + "\n"
}

// titlePrefix returns a prefix for titles of dry runs, "" for others.
func titlePrefix(results []Result) string {
	if dryRun(results) {
		return "Dry run: "
	}
	return ""
}

// short returns the beginning of a digest, by which people compare digests.
func short(digest string) string {
	const enough = len("sha256:") + 12
	return digest[:min(enough, len(digest))]
}

// table returns a table about one resource. Its first row is the header that Markdown requires.
func (r Result) table() string {
	var b strings.Builder
	for n, row := range r.rows() {
		if row.value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", row.name, row.value)
		}
		if n == 0 {
			b.WriteString("|:--|:--|\n")
		}
	}
	return b.String()
}

// row is a row of a summary's table, with its cells in Markdown.
type row struct{ name, value string }

// rows returns the rows of the table about one resource.
func (r Result) rows() []row {
	if r.Err != nil {
		return []row{{"Revision", r.state()}, {"Error", action.Escape(r.Err.Error())}, {"Time", action.Duration(r.Took)}}
	}
	if r.Unknown {
		return []row{{"Revision", r.state()}, {"Time", action.Duration(r.Took)}}
	}
	sent, source := "Sent", r.SourceDigest
	if r.DryRun {
		sent = "To send"
	}
	if source == r.RemoteDigest { // which the remote image has
		source = ""
	}
	return []row{
		{"Revision", r.state()},
		{
			"Remote image",
			strings.Replace(action.Code(r.RemoteImage), "&#64;", "<wbr>&#64;", 1),
		}, // a line rarely has room for all of it
		{"Source", action.Code(source)},
		{"Platforms", r.runsOn()},
		{sent, r.transfer()},
		{"Time", action.Duration(r.Took)},
	}
}

// state returns what was done with the resource.
func (r Result) state() string {
	switch {
	case r.LeftOut != "":
		return "left out: " + action.Escape(r.LeftOut)
	case r.Err != nil:
		return "**failed**"
	case r.Unknown:
		return "none: no image is recorded under this key"
	case r.PushOnly:
		return "none (push-only)"
	case r.Revision == nil:
		return "would be created (dry run)"
	case r.Created:
		return fmt.Sprintf("**%d**, new", *r.Revision)
	case r.ArchitecturesChanged && r.DryRun:
		return fmt.Sprintf("**%d**, would get other architectures (dry run)", *r.Revision)
	case r.ArchitecturesChanged:
		return fmt.Sprintf("**%d**, with other architectures", *r.Revision)
	default:
		return fmt.Sprintf("**%d**, unchanged", *r.Revision)
	}
}

// runsOn returns the platforms of an image for the table.
func (r Result) runsOn() string {
	var names []string
	for _, platform := range r.Platforms {
		names = append(names, action.Escape(platform.String()))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// transfer returns what was sent, or would have been, and what was reused.
func (r Result) transfer() string {
	switch {
	case len(r.Blobs) > 0 && len(r.Reused) > 0:
		return fmt.Sprintf("%s; %s reused", amount(r.Blobs), amount(r.Reused))
	case len(r.Blobs) > 0:
		return amount(r.Blobs)
	case len(r.Reused) > 0:
		return fmt.Sprintf("only the manifest; %s reused", amount(r.Reused))
	case r.Uploaded || r.DryRun && r.Revision == nil && r.Size > 0:
		return action.Size(r.Size)
	default:
		return "nothing"
	}
}

// toRelease says how to release what has a revision, as Markdown.
func toRelease(results []Result) string {
	var flags strings.Builder
	for _, r := range withoutLeftOut(results) {
		if r.Err == nil && r.Revision != nil {
			fmt.Fprintf(&flags, " --resource=%s:%d", action.Escape(r.Resource), *r.Revision)
		}
	}
	if flags.Len() == 0 {
		return ""
	}
	return fmt.Sprintf(
		"\nTo release it, pass the output <code>resources</code> to the action <code>release</code>, or run\n\n"+
			"<pre>charmcraft release %s --revision=REVISION --channel=CHANNEL%s</pre>\n",
		action.Escape(results[0].Charm),
		flags.String(),
	)
}

// amount returns the number and total size of blobs.
func amount(blobs []v1.Descriptor) string {
	return fmt.Sprintf("%s (%s)", plural(len(blobs), "blob"), action.Size(registry.Size(blobs)))
}

// plural returns a number and a noun, in the plural if needed.
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
