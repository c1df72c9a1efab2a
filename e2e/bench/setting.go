package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// setting is the image, the network and the registry that are measured, and what
// is measured with them.
type setting struct {
	size     int64  // of images, uncompressed, in MB: millions of bytes
	layers   string // sizes in per cent, separated by commas
	rows     string // kinds of places, separated by commas
	tools    string // likewise
	rate     string
	rtt      time.Duration
	registry string // "slow", or empty
	rounds   int

	link   *link // of that rate and that rtt
	shares []int64
}

// pageSettings returns what docs/benchmarks.md shows: all at 100 MB/s, and under
// other conditions what they make a difference to. With the slow registry a round
// takes long, and as long as another.
func (b *bench) pageSettings() (all []setting) {
	const rtt, most = 90 * time.Millisecond, 100 // MB; the slow registry takes 5 of them a second
	for _, s := range []setting{
		{rtt: rtt, rate: "100MB/s", rows: rowKinds, tools: toolNames()},
		{rtt: rtt, rate: "30MB/s", rows: "graph,containerd", tools: "action,action-zstd,skopeo,crane,regctl,save"},
		{rtt: rtt, registry: "slow", rows: "rock,registry", tools: "action,skopeo,crane,regctl",
			layers: "20,15,12,10,9,8,8,6,5,4,2,1", rounds: 1},
		{rows: "graph", tools: "action,action-zstd,skopeo,crane,save"},
	} {
		s.size, s.rows, s.tools = b.size, both(b.rows, s.rows), both(b.tools, s.tools)
		if s.rounds == 0 {
			s.rounds = b.rounds
		}
		if s.layers == "" {
			s.layers = b.layers
		} else {
			s.size = min(b.size, most)
		}
		if s.rate == "" {
			s.rate = b.rate
		}
		if err := s.parse(); err != nil {
			panic(err) // the list above is wrong
		}
		all = append(all, s)
	}
	return all
}

// both returns the names that are in both lists.
func both(a, b string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(a, ","), func(name string) bool { return !has(b, name) }), ",")
}

// has tells whether a name is in a list, which has commas.
func has(list, name string) bool { return slices.Contains(strings.Split(list, ","), name) }

// parse reads the layers, the rate and the registry.
func (s *setting) parse() error {
	if s.registry != "" && s.registry != "slow" {
		return fmt.Errorf("-registry %s: there is only slow", s.registry)
	}
	var sum int64
	for text := range strings.SplitSeq(s.layers, ",") {
		share, err := strconv.ParseUint(text, 10, 7)
		if err != nil {
			return fmt.Errorf("-layers %s: %w; write them like 55,30,14,1", s.layers, err)
		}
		s.shares = append(s.shares, int64(share))
		sum += int64(share)
	}
	if sum > 100 {
		return fmt.Errorf("-layers %s: they are %d %% of the image; write them like 55,30,14,1", s.layers, sum)
	}
	bytes, err := humanize.ParseBytes(strings.TrimSuffix(s.rate, "/s"))
	if err != nil {
		return fmt.Errorf("-rate %s: %w; write it like 30MB/s", s.rate, err)
	}
	s.link = newLink(s.rtt, bytes)
	return nil
}

// condition returns the network and the registry as tables and charts name them.
func (s *setting) condition() string {
	if s.registry != "" {
		return s.link.String() + ", slow registry"
	}
	return s.link.String()
}
