package publishcharm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/publish"
)

// Reporter is where the result is reported to, as [action.Runner] is.
type Reporter interface {
	Logger() *zap.Logger
	AddSummary(markdown string) error
	SetOutputs(outputs ...action.Output) error
}

// Report ends the log, and writes the step's summary and its outputs. The website has a page for each charm; it may be
// empty.
func Report(to Reporter, took time.Duration, website string, done Result) error {
	summary := done.Release.Summary(website)
	if len(done.Resources) > 0 {
		summary += "\n" + publish.Summary(done.Resources, website)
	}
	if err := to.AddSummary(summary); err != nil { // what it would say has happened
		to.Logger().Warn(err.Error())
	}
	done.Release.Log(to.Logger())
	to.Logger().Info(publish.LastLine(took, done.Resources) + "; " + done.Release.State())
	outputs, err := done.outputs()
	if err != nil {
		return err
	}
	return to.SetOutputs(outputs...)
}

// outputs returns those of the step: those of a release, the resources of an upload, and the notes.
func (r Result) outputs() ([]action.Output, error) {
	outputs, err := r.Release.Outputs()
	if err != nil {
		return nil, err
	}
	uploads, err := publish.Outputs(r.Resources)
	at := slices.IndexFunc(uploads, func(o action.Output) bool { return o.Name == "resources" })
	return append(outputs, uploads[at], action.Output{Name: "notes", Value: r.notes(), HasLines: true}), err
}

// notes is Markdown for release notes: what is on the channels, what was there before, and what the resources are.
func (r Result) notes() string {
	var b strings.Builder
	if table := r.Release.Table(); table != "" {
		fmt.Fprintf(&b, "Charm %s, with what was there before in brackets:\n\n%s", action.Code(r.Release.Charm), table)
	}
	head := "\n| Resource | Revision | Digest |\n|---|---|---|\n"
	for _, one := range r.Resources {
		if one.Revision == nil || one.Err != nil {
			continue
		}
		digest := one.RemoteDigest
		if digest == "" { // a file
			digest = one.SourceDigest
		}
		fmt.Fprintf(&b, "%s| %s | %d | %s |\n", head, action.Code(one.Resource), *one.Revision, action.Code(digest))
		head = ""
	}
	return b.String()
}
