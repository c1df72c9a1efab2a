package release

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
)

// Reporter is where a release is reported to, as [action.Runner] is.
type Reporter interface {
	Logger() *zap.Logger
	AddSummary(markdown string) error
	SetOutputs(outputs ...action.Output) error
}

// Report ends the log, and writes the step's summary and its outputs. The website has a page for each charm; it may be
// empty.
func Report(to Reporter, took time.Duration, website string, done Result) error {
	if err := to.AddSummary(done.Summary(website)); err != nil { // what it would say has happened
		to.Logger().Warn(err.Error())
	}
	done.Log(to.Logger())
	to.Logger().Info(fmt.Sprintf("Done in %s: %s", action.Duration(took), done.State()))
	outputs, err := done.Outputs()
	if err != nil {
		return err
	}
	return to.SetOutputs(outputs...)
}

// Log has a line for each channel map entry, those that were left out included.
func (d Result) Log(log *zap.Logger) {
	for _, row := range d.Plan.Rows {
		log.Info(fmt.Sprintf("%s for %s: %s", row.After.Channel, row.After.Base, d.entry(row)))
	}
	for _, row := range d.Plan.LeftOut {
		log.Info(fmt.Sprintf("%s for %s: left out by the input bases, stays as it is: %s", row.After.Channel, row.After.Base,
			describe(row.Before)))
	}
}

// entry describes what was done to a channel map entry, as a line of the log.
func (d Result) entry(row channelmap.Row) string {
	revision, resources := compare(row)
	text := "charm revision " + revision.String()
	for n, resource := range resources {
		before := ", "
		if n == 0 {
			before = " with "
		}
		text += before + resource.String()
	}
	return text + ", " + d.rowState(row)
}

// rowState says in a few words what became of a row.
func (d Result) rowState(row channelmap.Row) string {
	switch {
	case d.isNotShown(row):
		return "sent, but not on the channel map"
	case !row.Changed():
		return "unchanged"
	default:
		return d.verb("released", "to be released")
	}
}

// isNotShown reports whether the channel map lacks the row, though the store took it.
func (d Result) isNotShown(row channelmap.Row) bool {
	return slices.ContainsFunc(d.NotShown, func(other channelmap.Row) bool {
		return other.After.Channel == row.After.Channel && other.After.Base == row.After.Base
	})
}

// change is a revision, of the charm or of a resource, that a channel map entry has.
type change struct {
	now, was string // was is empty if there was none, or the same one
	changed  bool
	kept     bool // since nothing else was asked for
}

// String returns the revision now, and what it was before, as plain text.
func (c change) String() string {
	switch {
	case c.kept:
		return c.now + " (kept)"
	case c.was != "":
		return fmt.Sprintf("%s (was %s)", c.now, c.was)
	default:
		return c.now
	}
}

// markdown is the change, with what changed in bold type.
func (c change) markdown() string {
	c.now = action.Escape(c.now)
	if c.changed {
		c.now = "**" + c.now + "**"
	}
	return c.String()
}

// compare returns the changes of a channel map entry, each with what was there before.
func compare(row channelmap.Row) (revision change, resources []change) {
	var before charmhub.Release
	revision = change{now: strconv.Itoa(row.After.Revision), changed: true, kept: row.KeepsRevision}
	if channelmap.IsPlanned(row.After.Revision) {
		revision.now = "to be created"
	}
	if row.Before != nil {
		before = *row.Before
		if revision.changed = before.Revision != row.After.Revision; revision.changed {
			revision.was = strconv.Itoa(before.Revision)
		}
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(before.Resources)), maps.Keys(row.After.Resources))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		now, was := numberOf(row.After, name), numberOf(before, name)
		p := change{now: fmt.Sprintf("%s:%d", name, now), changed: now != was, kept: slices.Contains(row.KeptResources, name)}
		switch {
		case now == charmhub.NoRevision && was == charmhub.NoRevision:
			continue
		case now == charmhub.NoRevision:
			p.now = "no " + name
		case now == channelmap.ToUpload:
			p.now = name + " to be uploaded"
		}
		if p.changed && was != charmhub.NoRevision {
			p.was = strconv.Itoa(was)
		}
		resources = append(resources, p)
	}
	return revision, resources
}

// verb returns done, or planned after a dry run.
func (d Result) verb(done, planned string) string {
	if d.DryRun {
		return planned
	}
	return done
}

// State says in a few words what became of the release.
func (d Result) State() string {
	switch {
	case d.Failed:
		return "failed"
	case len(d.Plan.Entries) > 0:
		return d.verb("released", "dry run, nothing was released")
	case len(d.Plan.Rows) > 0 || !slices.ContainsFunc(d.Charms, CharmFile.isNew):
		return d.verb("unchanged", "dry run, nothing would change")
	default:
		return d.verb("uploaded, nothing to release", "dry run, nothing was uploaded")
	}
}

// charmRevisions are the revisions of the charm files, or else those on the channels.
func (d Result) charmRevisions() []string {
	var numbers []string
	add := func(number int) {
		if text := strconv.Itoa(number); !channelmap.IsPlanned(number) && !slices.Contains(numbers, text) {
			numbers = append(numbers, text)
		}
	}
	for _, file := range d.Charms {
		add(file.Revision)
	}
	if len(d.Charms) == 0 {
		for _, row := range d.Plan.Rows {
			if !d.isNotShown(row) {
				add(row.After.Revision)
			}
		}
	}
	return numbers
}

// Outputs returns the outputs of the step.
func (d Result) Outputs() ([]action.Output, error) {
	type content struct {
		Revision  *int            `json:"revision"` // null for one that a dry run would create, as below
		Resources map[string]*int `json:"resources"`
	}
	type kept struct {
		Revision  bool     `json:"revision"`
		Resources []string `json:"resources"`
	}
	type entry struct {
		Channel string      `json:"channel"`
		Base    *charm.Base `json:"base"`
		content
		Before  *content `json:"before"`
		Changed bool     `json:"changed"`
		Kept    kept     `json:"kept"`
	}
	contentOf := func(r charmhub.Release) content {
		c := content{Resources: map[string]*int{}}
		if !channelmap.IsPlanned(r.Revision) {
			c.Revision = &r.Revision
		}
		for name, number := range r.Resources {
			switch number {
			case charmhub.NoRevision:
			case channelmap.ToUpload:
				c.Resources[name] = nil
			default:
				c.Resources[name] = &number
			}
		}
		return c
	}
	entries := []entry{}
	for _, row := range d.Plan.Rows {
		if d.isNotShown(row) {
			continue
		}
		e := entry{
			Channel: row.After.Channel.String(), content: contentOf(row.After), Changed: row.Changed(),
			Kept: kept{row.KeepsRevision, append([]string{}, row.KeptResources...)},
		}
		if row.After.Base != (charm.Base{}) {
			e.Base = &row.After.Base
		}
		if row.Before != nil {
			before := contentOf(*row.Before)
			e.Before = &before
		}
		entries = append(entries, e)
	}
	releases, err := json.Marshal(entries)
	return []action.Output{
		{Name: "charm-revisions", Value: strings.Join(d.charmRevisions(), " ")},
		{Name: "released", Value: strconv.FormatBool(d.Released)},
		{Name: "releases", Value: string(releases)},
	}, err
}

// Summary returns a table of the channel map, the commands that make Juju use what was released and that find its pods,
// and a table of the charm files, as Markdown.
func (d Result) Summary(website string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Charm %s: %s\n\n%s", action.CharmName(website, d.Charm), d.State(), d.Table())
	var commands []string
	for _, row := range d.Plan.Rows {
		command := fmt.Sprintf("juju refresh %s --channel=%s\n", action.Escape(d.Charm),
			action.Escape(row.After.Channel.String()))
		if d.Released && row.Changed() && !d.isNotShown(row) && !slices.Contains(commands, command) {
			commands = append(commands, command)
		}
	}
	for _, track := range d.Plan.NewTracks {
		fmt.Fprintf(&b, "\nTrack %s: %s\n", action.Code(track), d.verb("created", "to be created"))
	}
	if leftOut := d.leftOut(); leftOut != "" {
		fmt.Fprintf(&b, "\nLeft out by the input bases: %s\n", leftOut)
	}
	if len(commands) > 0 { // not in a fence, which shows character references as they are
		fmt.Fprintf(&b, "\nMake Juju use it:\n\n<pre>%s</pre>\n%s", strings.Join(commands, ""), action.FindPods(d.released()))
	}
	if len(d.Charms) > 0 {
		b.WriteString("\n| File | Revision | Bases |\n|---|---|---|\n")
		for _, file := range d.Charms {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", action.Code(file.Path), file.state(d.Failed), listBases(file.Bases))
		}
	}
	return b.String()
}

// released returns the digests of the images that changed on a channel, as far as they are known.
func (d Result) released() (digests []string) {
	for _, row := range d.Plan.Rows {
		for name, digest := range d.Digests {
			before := charmhub.NoRevision
			if row.Before != nil {
				before = numberOf(*row.Before, name)
			}
			if after := numberOf(row.After, name); after != before && after != charmhub.NoRevision && !d.isNotShown(row) {
				digests = append(digests, digest)
			}
		}
	}
	slices.Sort(digests)
	return slices.Compact(digests)
}

// numberOf returns the revision of a resource that the release has; [charmhub.NoRevision] if it has none.
func numberOf(release charmhub.Release, name string) int {
	if number, ok := release.Resources[name]; ok {
		return number
	}
	return charmhub.NoRevision
}

// Table has a row for each channel map entry, as Markdown; it is empty if there is none.
func (d Result) Table() string {
	var b strings.Builder
	if len(d.Plan.Rows) > 0 {
		b.WriteString("| Channel | Base | Charm revision | Resources |\n|---|---|---|---|\n")
	}
	for _, row := range d.Plan.Rows {
		revision, resources := compare(row)
		state := revision.markdown()
		if !row.Changed() || d.isNotShown(row) {
			state += ", " + d.rowState(row)
		}
		var cells []string
		for _, resource := range resources {
			cells = append(cells, resource.markdown())
		}
		channel := action.Code(row.After.Channel.String())
		if row.NewChannel {
			channel += ", new"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", channel, action.Escape(row.After.Base.String()), state,
			strings.Join(cells, ", "))
	}
	return b.String()
}

// leftOut lists the bases that weren't asked for, by channel.
func (d Result) leftOut() string {
	var channels []string
	var bases []charm.Base
	for n, row := range d.Plan.LeftOut {
		if bases = append(bases, row.After.Base); n+1 == len(d.Plan.LeftOut) ||
			d.Plan.LeftOut[n+1].After.Channel != row.After.Channel {
			channels = append(channels, listBases(slices.Compact(bases))+" on "+action.Code(row.After.Channel.String()))
			bases = nil
		}
	}
	return strings.Join(channels, "; ")
}

// isNew reports whether the file is, or would be, a new revision.
func (f CharmFile) isNew() bool { return f.Created || f.isPlanned() }

// state returns the file's cell in the summary's table. Failed is whether the run did.
func (f CharmFile) state(failed bool) string {
	switch {
	case f.isPlanned() && failed:
		return "**failed**"
	case f.isPlanned():
		return "would be created (dry run)"
	case f.Created:
		return fmt.Sprintf("**%d**, new", f.Revision)
	default:
		return fmt.Sprintf("**%d**, unchanged", f.Revision)
	}
}

// listBases returns bases as escaped Markdown, separated by commas.
func listBases(bases []charm.Base) string {
	var names []string
	for _, base := range bases {
		names = append(names, action.Escape(base.String()))
	}
	return strings.Join(names, ", ")
}
