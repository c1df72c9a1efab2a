// Command bench measures the action beside what a user would pick instead, on
// this machine, and prints the medians as Markdown tables:
//
//	go run ./e2e/bench [-size 1000] [-layers 55,30,14,1] [-rounds 3] [-rtt 90ms] [-rate 30MB/s]
//		[-registry slow] [-rows graph,rock,…] [-tools action,skopeo,…] [-json FILE]
//	go run ./e2e/bench -docs . [-size 1000] [-rounds 3] [-rows graph,rock,…] [-tools action,skopeo,…] [-json FILE]
//	go run ./e2e/bench -docs . -from FILE
//
// With -docs, it measures under the conditions of docs/benchmarks.md, one after
// another, and writes the tables and charts of that page and of README.md.
//
// Images lie in the Docker engine, in a dockerd that keeps images in containerd
// (the binary that UPLOAD_RESOURCE_DOCKERD names; needs root and containerd), in
// an OCI archive as a rock is one, and in another registry. Each tool pushes an
// image, the same again, and one whose last layer, 1 % of it, changed; the action
// also such a layer as a file. What this machine lacks is left out, and listed.
//
// Every run has a home and a temporary folder of its own, so that it finds no
// cache, and a Charmhub on loopback. With -rtt, each connection to Charmhub's
// servers and to the other registry takes that round trip, half of it each way,
// and two more to open, as TCP and TLS do; with -rate, all connections share a
// link of so many bytes a second each way. TCP's slow start isn't simulated, and
// the engine stays near. The round trips on the critical path are time ÷ rtt.
// With -registry slow, Charmhub's registry takes half a second for each request,
// three seconds for one that begins an upload, and 5 MB/s.
//
// Images are made of the machine's own files. What was made is removed at the
// end, also after an interrupt.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/charmhub-actions/upload-resource/e2e/program"
)

func main() { program.Main("bench", run) }

// bench holds what all measurements share: the setting, the program under test, the images and the results so far.
type bench struct {
	setting        // what is measured now
	json    string // file for the runs; empty for none
	docs    string // folder of the repository whose pages are written; empty for none
	from    string // file of runs to write the pages of; empty to measure

	work      string // folder for everything
	program   string // the action's
	source    *hub   // the other registry, behind the setting's link
	recipes   []recipe
	engines   []scenario
	scenarios []scenario // of the setting
	images    map[string][]localImage
	measured  []measurement
	left      []string       // what was left out, and why
	cleanup   []func() error // what removes all that was made, the last first
}

// scenario is somewhere that an upload may lie, with two images that differ in
// their last layer, or two files.
type scenario struct {
	kind, name string
	engine     string // DOCKER_HOST of its engine
	// put brings an image and returns what finds it there.
	put     func(ctx context.Context, image localImage) (ref string, err error)
	uploads []upload
}

// upload is an image, or a file, and what finds it.
type upload struct {
	ref string // ID, path or name@digest
	sum string // sha256 of its config, or of the file, in hex
}

const rowKinds = "graph,containerd,rock,registry,file"

// flags returns the flags that set the fields.
func (b *bench) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Int64Var(&b.size, "size", 1000, "size of the image, uncompressed, in MB")
	flags.StringVar(&b.layers, "layers", "55,30,14,1", "sizes of the image's layers, in per cent of it; the "+
		"last one changes")
	flags.StringVar(&b.registry, "registry", "", "slow for a registry that takes 0.5 s for each request, 3 s for the "+
		"beginning of an upload, and 5 MB/s")
	flags.StringVar(&b.rows, "rows", rowKinds, "where the image is, separated by commas")
	flags.StringVar(&b.tools, "tools", toolNames(), "what to measure, separated by commas")
	flags.StringVar(&b.rate, "rate", "0B/s", "rate of the link to the servers, each way, such as 30MB/s; 0 for no limit")
	flags.DurationVar(&b.rtt, "rtt", 0, "round-trip time of each connection to a server, such as 90ms")
	flags.IntVar(&b.rounds, "rounds", 3, "how often each thing is measured")
	flags.StringVar(&b.json, "json", "", "file to write every run to")
	flags.StringVar(&b.docs, "docs", "", "folder of the repository: measure what its pages show, and write their "+
		"tables and charts")
	flags.StringVar(&b.from, "from", "", "file of runs to write the pages of, instead of measuring")
	return flags
}

// parse reads the flags.
func (b *bench) parse(args []string) error {
	flags := b.flags()
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	flags.Visit(func(f *flag.Flag) {
		if b.docs != "" && has("layers,rate,registry,rtt", f.Name) {
			err = fmt.Errorf("-%s has to be without -docs, which measures under several conditions", f.Name)
		}
	})
	if b.size < 1 || b.rounds < 1 {
		return errors.New("-size and -rounds have to be 1 or more")
	}
	if b.from != "" && b.docs == "" {
		return errors.New("-from has to be with -docs")
	}
	for _, list := range []struct{ chosen, known string }{{b.rows, rowKinds}, {b.tools, toolNames()}} {
		for name := range strings.SplitSeq(list.chosen, ",") {
			if !has(list.known, name) {
				return fmt.Errorf("there is no %q to measure; choose from %s", name, list.known)
			}
		}
	}
	return errors.Join(err, b.setting.parse())
}

// run prints the report to out. A run that failed shows in the report and makes
// an error after it.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	b := &bench{}
	defer func() {
		for _, remove := range slices.Backward(b.cleanup) {
			complain(remove())
		}
	}()
	if err := b.parse(args); err != nil {
		return err
	}
	if b.from != "" {
		all, err := readResults(b.from)
		if err != nil {
			return err
		}
		return writePages(b.docs, all)
	}
	if b.work, err = os.MkdirTemp("", "upload-resource-bench-"); err != nil {
		return fmt.Errorf("making a folder for the measurements: %w", err)
	}
	b.cleanup = append(b.cleanup, func() error { return os.RemoveAll(b.work) })
	progress("building the action")
	b.program = filepath.Join(b.work, "upload-resource")
	if err := program.Build(ctx, b.program); err != nil {
		return err
	}
	b.chooseRecipes()
	b.engines = b.findEngines(ctx)
	settings := []setting{b.setting}
	if b.docs != "" {
		settings = b.pageSettings()
	}
	for _, b.setting = range settings {
		if err := b.measureSetting(ctx, out); err != nil {
			return err
		}
	}
	return b.report(ctx, out)
}

// measureSetting measures all that the setting asks for, and prints its tables.
func (b *bench) measureSetting(ctx context.Context, out io.Writer) (err error) {
	progress("image of %d MB; %s", b.size, b.condition())
	if b.source, err = newHub(b.link, nil); err != nil {
		return err
	}
	b.cleanup = append(b.cleanup, b.source.close)
	if err := errors.Join(b.makeScenarios(ctx), ctx.Err()); err != nil {
		return fmt.Errorf("making images of %d MB: %w", b.size, err)
	}
	for round := range b.rounds {
		progress("round %d of %d", round+1, b.rounds)
		for _, s := range b.scenarios {
			for i := range b.recipes { // in another order each round, so that none has always the same one before it
				if err := b.cycle(ctx, s, b.recipes[(i+round)%len(b.recipes)]); err != nil {
					return err
				}
			}
		}
	}
	b.print(out)
	return nil
}

// cycle measures a recipe in one round, if it takes such uploads, on a Charmhub of
// its own. Each run leaves it as the next one needs it.
func (b *bench) cycle(ctx context.Context, s scenario, r recipe) error {
	if !slices.Contains(strings.Fields(r.kinds), s.kind) || !has(b.tools, r.tool) {
		return nil
	}
	h, err := newHub(b.link, b.charmhubRegistry())
	if err != nil {
		return err
	}
	defer func() { complain(h.close()) }()
	if r.tool == "save" {
		return b.measure(ctx, h, s, exportAlone, r, s.uploads[0])
	}
	return errors.Join(b.measure(ctx, h, s, firstPush, r, s.uploads[0]),
		b.measure(ctx, h, s, unchanged, r, s.uploads[0]), b.measure(ctx, h, s, changed, r, s.uploads[1]))
}

// progress prints to stderr what the bench is doing.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// complain prints what couldn't be removed.
func complain(err error) {
	if err != nil {
		progress("cleaning up: %v", err)
	}
}
