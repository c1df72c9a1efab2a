package publish

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/action"
)

// summary is the results as the step's summary: a table each, and the command
// that lists the pods for their images. Several begin with a table of all, and
// fold the tables of those that didn't fail. Names and digests come from outside,
// so everything is escaped.
func summary(results []Result) string {
	var b strings.Builder
	if len(results) == 1 {
		fmt.Fprintf(&b, "### %s%s of charm %s\n\n%s", titlePrefix(results), action.Code(results[0].Resource), action.Code(results[0].Charm), results[0].table())
	} else {
		b.WriteString(overview(results))
		for _, r := range published(results) {
			folded := "<details>"
			if r.Err != nil {
				folded = "<details open>"
			}
			fmt.Fprintf(&b, "%s<summary>%s</summary>\n\n%s\n</details>\n\n", folded, action.Code(r.Resource), r.table())
		}
	}
	if command := kubectl(results); command != "" {
		fmt.Fprintf(&b, "\nFind the pods in the cluster:\n\n```sh\n%s\n```\n", command)
	}
	return b.String()
}

// overview is one table with a row for each resource.
func overview(results []Result) string {
	var b strings.Builder
	if len(results) > 0 {
		fmt.Fprintf(&b, "### %sResources of charm %s\n\n", titlePrefix(results), action.Code(results[0].Charm))
	}
	b.WriteString("| Resource | Revision | Remote digest | Sent | Time |\n|---|---|---|---|---|\n")
	for _, r := range results {
		digest, sent, took := short(r.RemoteDigest), action.Size(r.sent()), action.Duration(r.Took)
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

// titlePrefix says in a title that nothing was changed, where that is so.
func titlePrefix(results []Result) string {
	if dryRun(results) {
		return "Dry run: "
	}
	return ""
}

// short leaves of a digest what people compare it by.
func short(digest string) string {
	const enough = len("sha256:") + 12
	return digest[:min(enough, len(digest))]
}

// table is all there is to say about one resource. Its first row is the head
// that Markdown demands of a table.
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

type row struct{ name, value string }

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
		{"Remote image", strings.Replace(action.Code(r.RemoteImage), "&#64;", "<wbr>&#64;", 1)}, // a line rarely has room for all of it
		{"Source", action.Code(source)},
		{"Platforms", r.runsOn()},
		{sent, r.transfer()},
		{"Time", action.Duration(r.Took)},
	}
}

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
	case r.Corrected && r.DryRun:
		return fmt.Sprintf("**%d**, would get other architectures (dry run)", *r.Revision)
	case r.Corrected:
		return fmt.Sprintf("**%d**, with other architectures", *r.Revision)
	default:
		return fmt.Sprintf("**%d**, unchanged", *r.Revision)
	}
}

func (r Result) runsOn() string {
	var names []string
	for _, platform := range r.Platforms {
		names = append(names, action.Escape(platform.String()))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// transfer is what was sent, or would have been, and what didn't have to be.
func (r Result) transfer() string {
	switch {
	case len(r.Blobs) > 0 && len(r.Reused) > 0:
		return fmt.Sprintf("%s; %s reused", amount(r.Blobs), amount(r.Reused))
	case len(r.Blobs) > 0:
		return amount(r.Blobs)
	case r.Uploaded || r.DryRun && r.Revision == nil && r.Size > 0:
		return action.Size(r.Size)
	default:
		return "nothing"
	}
}

// kubectl returns the command that lists the pods whose specifications name one of
// the images, or nothing if there is none. It doesn't look at what container
// runtimes report, which may be another digest of the image.
func kubectl(results []Result) string {
	var digests []string
	for _, r := range results {
		if r.Err == nil && r.Revision != nil && r.RemoteDigest != "" {
			digests = append(digests, " -e "+r.RemoteDigest)
		}
	}
	if len(digests) == 0 {
		return ""
	}
	return "kubectl get pods --all-namespaces --output=custom-columns=\\\n" +
		"'NAMESPACE:.metadata.namespace,POD:.metadata.name,IMAGES:.spec.containers[*].image' |\n" +
		"  grep" + strings.Join(digests, " \\\n      ")
}
