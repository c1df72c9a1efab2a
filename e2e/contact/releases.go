package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// aboutReleases lists the assumptions about releases.
var aboutReleases = []assumption{
	{"Releases", "a charm revision with resources is released to a branch, and the answer repeats it",
		"the action goes by the channel map, not by the answer", tryRelease},
	{"Releases", "the channel map shows a release at once", "the action reads it for a minute, and then fails", tryShown},
	{"Releases", "a release changes no other channel", "the action compares the channel map before and after, and fails",
		tryOthers},
	{"Releases", "resources that a release leaves out are carried over", "none: the action sends them all", tryCarried},
	{"Releases", "a release for one base is taken",
		"different resources for each base of one charm revision can't be released; give resources for all", tryBase},
}

// entry is one of the channel map.
type entry struct {
	Base      *base
	Channel   string
	Revision  *int
	Resources []attached
}

// attached is a resource of a channel map entry; a nil revision means none.
type attached struct {
	Name     string `json:"name"`
	Revision *int   `json:"revision"`
}

// channels reads the channel map: the entries of the branch, and a text of all others.
func (c *contact) channels(ctx context.Context) (branch []entry, others string, err error) {
	var list struct {
		Map []entry `json:"channel-map"`
	}
	if err := c.list(ctx, "/releases", &list); err != nil {
		return nil, "", err
	}
	var rest []string
	for _, e := range list.Map {
		if e.Channel == c.branch() {
			branch = append(branch, e)
			continue
		}
		text, _ := json.Marshal(e) // plain types
		rest = append(rest, string(text))
	}
	slices.Sort(rest)
	return branch, strings.Join(rest, "\n"), nil
}

// release releases the charm revision to the branch, and nothing else anywhere.
func (c *contact) release(ctx context.Context, resources []attached, of *base) (answer, error) {
	request := map[string]any{"channel": c.branch(), "revision": c.charmRevision, "resources": resources}
	if of != nil {
		request["base"] = of
	}
	return c.ofCharm(ctx, http.MethodPost, "/releases", []any{request})
}

// choose chooses revisions of the declared resources: those that were made here, else the newest.
func (c *contact) choose(ctx context.Context) ([]attached, error) {
	var chosen []attached
	for _, name := range slices.Sorted(maps.Keys(c.declared)) {
		number := map[string]int{c.image: c.imageRevision, c.file: c.fileRevision}[name]
		if name != c.image && name != c.file || number < 0 {
			list, err := c.client.Revisions(ctx, c.charm, name)
			if err != nil {
				return nil, err
			}
			number = -1
			if len(list) > 0 {
				number = list[0].Revision
			}
		}
		if number >= 0 {
			chosen = append(chosen, attached{name, &number})
			continue
		}
		chosen = append(chosen, attached{name, nil})
	}
	return chosen, nil
}

// tryRelease releases a charm revision with its resources to the branch.
func tryRelease(ctx context.Context, c *contact) (finding, error) {
	if c.charmRevision < 0 || len(c.declared) == 0 {
		return untried("no charm revision with resources is known")
	}
	resources, err := c.choose(ctx)
	if err != nil {
		return finding{}, err
	}
	_, others, err := c.channels(ctx)
	if err != nil {
		return finding{}, err
	}
	c.before = others
	a, err := c.release(ctx, resources, nil)
	if err != nil {
		return finding{}, err
	}
	if err := a.ok(); err != nil {
		return refuted("%v", err)
	}
	for _, r := range resources {
		c.released[r.Name] = r.Revision
	}
	var said struct {
		Released []struct {
			Channel   *string
			Revision  *int
			Resources *[]attached
		}
	}
	if json.Unmarshal(a.body, &said) != nil || len(said.Released) != 1 {
		return refuted("the answer is %.200s", a.body)
	}
	first := said.Released[0]
	if first.Channel == nil || *first.Channel != c.branch() || first.Revision == nil || first.Resources == nil {
		return refuted("the answer is %.200s", a.body)
	}
	return confirmed("charm revision %d on %s", c.charmRevision, c.branch())
}

// shown waits until the branch has an entry with these resources.
func (c *contact) shown(
	ctx context.Context, want map[string]*int,
) (took time.Duration, branch []entry, seen bool, err error) {
	took, seen, err = c.until(ctx, func() (bool, error) {
		branch, _, err = c.channels(ctx)
		return slices.ContainsFunc(branch, func(e entry) bool { return e.has(c.charmRevision, want) }), err
	})
	return took, branch, seen, err
}

// has reports whether the entry has the charm revision and exactly these resources.
func (e entry) has(revision int, want map[string]*int) bool {
	if e.Revision == nil || *e.Revision != revision {
		return false
	}
	got := map[string]*int{}
	for _, r := range e.Resources {
		got[r.Name] = r.Revision
	}
	for name, number := range want {
		if number != nil && (got[name] == nil || *got[name] != *number) {
			return false
		}
	}
	return true
}

// tryShown waits until the channel map shows the release.
func tryShown(ctx context.Context, c *contact) (finding, error) {
	if len(c.released) == 0 {
		return untried("nothing was released")
	}
	took, branch, seen, err := c.shown(ctx, c.released)
	switch {
	case err != nil:
		return finding{}, err
	case !seen:
		return refuted("it doesn't after %s", took.Round(time.Second))
	}
	var bases []string
	for _, e := range branch {
		bases = append(bases, e.Base.String())
		if c.base == nil {
			c.base = e.Base
		}
	}
	return finding{took == 0, fmt.Sprintf("after %s, for %s", took.Round(100*time.Millisecond),
		strings.Join(bases, ", "))}, nil
}

// String returns the base as charmcraft shows it.
func (b *base) String() string {
	if b == nil {
		return "any base"
	}
	return fmt.Sprintf("%s %s (%s)", b.Name, b.Channel, b.Architecture)
}

// tryOthers compares the other channels with what they had before the release.
func tryOthers(ctx context.Context, c *contact) (finding, error) {
	if len(c.released) == 0 {
		return untried("nothing was released")
	}
	_, others, err := c.channels(ctx)
	if err != nil {
		return finding{}, err
	}
	if others != c.before {
		return refuted("the other channels were\n%s\nand are\n%s", c.before, others)
	}
	return confirmed("")
}

// tryCarried releases without resources, and looks which the branch has then.
func tryCarried(ctx context.Context, c *contact) (finding, error) {
	if len(c.released) == 0 {
		return untried("nothing was released")
	}
	a, err := c.release(ctx, []attached{}, nil)
	if err != nil {
		return finding{}, err
	}
	if err := a.ok(); err != nil {
		return refuted("it is refused: %v", err)
	}
	if err := c.wait(ctx, pause); err != nil {
		return finding{}, err
	}
	branch, _, err := c.channels(ctx)
	if err != nil {
		return finding{}, err
	}
	if slices.ContainsFunc(branch, func(e entry) bool { return e.has(c.charmRevision, c.released) }) {
		return confirmed("")
	}
	text, _ := json.Marshal(branch) // plain types
	return refuted("the branch has %s", text)
}

// tryBase releases to the branch for one base only.
func tryBase(ctx context.Context, c *contact) (finding, error) {
	switch {
	case len(c.released) == 0:
		return untried("nothing was released")
	case c.base == nil:
		return untried("the charm revision has no base")
	}
	want := maps.Clone(c.released)
	if c.indexRevision >= 0 { // another one than the other bases have
		want[c.image] = &c.indexRevision
	}
	var resources []attached
	for _, name := range slices.Sorted(maps.Keys(want)) {
		resources = append(resources, attached{name, want[name]})
	}
	a, err := c.release(ctx, resources, c.base)
	if err != nil {
		return finding{}, err
	}
	if err := a.ok(); err != nil {
		return refuted("%v", err)
	}
	_, branch, seen, err := c.shown(ctx, want)
	if err != nil || !seen {
		return finding{}, errors.Join(err, errors.New("the channel map doesn't show it"))
	}
	others := slices.DeleteFunc(slices.Clone(branch), func(e entry) bool { return e.Base != nil && *e.Base == *c.base })
	switch {
	case len(others) == 0 || c.indexRevision < 0:
		return confirmed("whether it is ignored can't be seen, as the branch has one base")
	case slices.ContainsFunc(others, func(e entry) bool { return e.has(c.charmRevision, want) }):
		return refuted("it is ignored: %d other bases have the same resources now", len(others))
	}
	return confirmed("%d other bases keep their resources", len(others))
}
