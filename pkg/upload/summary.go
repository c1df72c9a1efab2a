package upload

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/charmhub-actions/upload-resource/pkg/action"
)

// markdown is the reports as the step's summary: a table each, and the command
// that finds their images in a cluster. Several begin with a table of all, and
// fold their own. Names and digests come from outside, so everything is escaped.
func markdown(reports []*report) string {
	var b strings.Builder
	if len(reports) == 1 {
		fmt.Fprintf(&b, "### %s of charm %s\n\n%s", code(reports[0].Resource), code(reports[0].charm), reports[0].table())
	} else {
		b.WriteString(overview(reports))
		for _, r := range reports {
			fmt.Fprintf(&b, "<details><summary>%s</summary>\n\n%s\n</details>\n\n", code(r.Resource), r.table())
		}
	}
	if command := kubectl(reports); command != "" {
		fmt.Fprintf(&b, "\nFind it in the cluster:\n\n```sh\n%s\n```\n", command)
	}
	return b.String()
}

// overview is one table with a row for each resource.
func overview(reports []*report) string {
	var b strings.Builder
	if len(reports) > 0 {
		fmt.Fprintf(&b, "### Resources of charm %s\n\n", code(reports[0].charm))
	}
	b.WriteString("| Resource | Revision | Digest in the registry | Sent | Time |\n|---|---|---|---|---|\n")
	for _, r := range reports {
		digest, sent := short(r.RemoteDigest), humanize.Bytes(uint64(max(0, r.sentBytes())))
		if r.err != nil {
			digest, sent = "", ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(r.Resource), r.revision(), code(digest), sent, duration(r.took))
	}
	return b.String() + "\n"
}

// short leaves of a digest what people compare it by.
func short(digest string) string {
	const enough = len("sha256:") + 12
	return digest[:min(enough, len(digest))]
}

// table is all there is to say about one resource. Its first row is the head
// that Markdown demands of a table.
func (r *report) table() string {
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

func (r *report) rows() []row {
	if r.err != nil {
		return []row{{"Revision", r.revision()}, {"Error", action.Escape(r.err.Error())}, {"Time", duration(r.took)}}
	}
	sent := "Sent"
	if r.dryRun {
		sent = "To send"
	}
	return []row{
		{"Revision", r.revision()},
		{"Remote image", code(r.RemoteImage)},
		{"Source", code(r.SourceDigest)},
		{"Platforms", r.runsOn()},
		{sent, r.transfer()},
		{"Reused", r.known()},
		{"Time", duration(r.took)},
	}
}

func (r *report) revision() string {
	switch {
	case r.err != nil:
		return "failed"
	case r.Revision == nil:
		return "would be created (dry run)"
	case r.RevisionCreated:
		return fmt.Sprintf("**%d**, new", *r.Revision)
	case r.recorded:
		return fmt.Sprintf("**%d**, with other architectures", *r.Revision)
	default:
		return fmt.Sprintf("**%d**, unchanged", *r.Revision)
	}
}

func (r *report) runsOn() string {
	var names []string
	for _, platform := range r.platforms {
		names = append(names, action.Escape(platform.String()))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// transfer tells what was sent, or would have been.
func (r *report) transfer() string {
	switch {
	case len(r.sent) > 0:
		return amount(r.sent)
	case r.Uploaded || r.dryRun && r.Revision == nil && r.size > 0:
		return humanize.Bytes(uint64(max(0, r.size)))
	default:
		return "nothing"
	}
}

func (r *report) known() string {
	if len(r.reused) == 0 {
		return ""
	}
	return amount(r.reused)
}

// kubectl returns the command that lists the pods whose containers run one of
// the images, or nothing if there is none.
func kubectl(reports []*report) string {
	var greps strings.Builder
	for _, r := range reports {
		if r.err == nil && r.Revision != nil && r.RemoteDigest != "" {
			greps.WriteString(" -e " + r.RemoteDigest)
		}
	}
	if greps.Len() == 0 {
		return ""
	}
	return "kubectl get pods --all-namespaces --output custom-columns=\\\n" +
		"'NAMESPACE:.metadata.namespace,POD:.metadata.name,IMAGES:.status.containerStatuses[*].imageID' |\n" +
		"  grep" + greps.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "<code>" + action.Escape(text) + "</code>"
}
