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
	charm, resource string
	action.Outputs
	dryRun       bool
	platforms    []string // of an image
	sent, reused []v1.Descriptor
	took         time.Duration
}

// markdown is the report as a part of the step's summary. Names and digests
// come from outside, so everything is escaped.
func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s of charm %s\n\n| | |\n|---|---|\n", code(r.resource), code(r.charm))
	for _, row := range r.rows() {
		if row.value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", row.name, row.value)
		}
	}
	if r.RemoteDigest != "" {
		fmt.Fprintf(&b, "\nFind it in the cluster:\n\n```sh\n%s\n```\n", kubectl(r.RemoteDigest))
	}
	return b.String()
}

type row struct{ name, value string }

func (r report) rows() []row {
	return []row{
		{"Revision", r.revision()},
		{"Remote image", code(r.RemoteImage)},
		{"Source", code(r.SourceDigest)},
		{"Platforms", action.Escape(strings.Join(r.platforms, ", "))},
		{"Sent", amount(r.sent)},
		{"Reused", amount(r.reused)},
		{"Time", r.took.Round(100 * time.Millisecond).String()},
	}
}

func (r report) revision() string {
	switch {
	case r.dryRun && r.Revision == 0:
		return "would be created (dry run)"
	case r.RevisionCreated:
		return fmt.Sprintf("**%d**, new", r.Revision)
	default:
		return fmt.Sprintf("**%d**, unchanged", r.Revision)
	}
}

// kubectl returns the command that lists the pods whose containers run a
// digest.
func kubectl(digest string) string {
	return `kubectl get pods --all-namespaces --output jsonpath='{range .items[*]}{.metadata.namespace}{"/"}{.metadata.name}` +
		`{range .status.containerStatuses[*]}{" "}{.imageID}{end}{"\n"}{end}' | grep ` + digest
}

func amount(blobs []v1.Descriptor) string {
	switch len(blobs) {
	case 0:
		return ""
	case 1:
		return "1 blob, " + humanize.Bytes(uint64(max(0, blobs[0].Size)))
	default:
		return fmt.Sprintf("%d blobs, %s", len(blobs), humanize.Bytes(uint64(max(0, registry.Size(blobs)))))
	}
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "<code>" + action.Escape(text) + "</code>"
}
