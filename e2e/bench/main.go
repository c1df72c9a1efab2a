// Command bench measures the action beside what a user would pick instead, on
// this machine, and prints the medians as Markdown tables:
//
//	go run ./e2e/bench [-size 1500] [-rounds 3] [-rtt 90ms] [-rate 30MB/s] [-json FILE] [-tools action,skopeo,…]
//
// Images lie in the Docker engine, in a dockerd that keeps images in containerd
// (the binary that UPLOAD_RESOURCE_DOCKERD names; needs root and containerd), in
// an OCI archive as a rock is one, and in another registry. Each tool pushes an
// image, the same again, and one whose last layer, 1 % of it, changed. The action
// also uploads a file twice. What this machine lacks is left out, and said.
//
// Every run has a home and a temporary folder of its own, so that it finds no
// cache, and a Charmhub on loopback. With -rtt, each connection to Charmhub's
// servers and to the other registry takes that round trip, half of it each way,
// and two more to open, as TCP and TLS do; with -rate, all connections share a
// link of so many bytes a second each way. TCP's slow start isn't simulated, and
// the engine stays near. A round trip on the critical path is time ÷ rtt.
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
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"

	"github.com/charmhub-actions/upload-resource/e2e/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what all measurements share.
type bench struct {
	sizes  []int // of images, uncompressed, in MB: millions of bytes
	rounds int
	tools  []string
	json   string
	link   *link

	work      string // folder for everything
	program   string // the action's
	source    *hub   // the other registry
	scenarios []scenario
	measured  []measurement
	left      []string // what was left out, and why
	cleanup   []func() // what removes all that was made, the last first
}

// scenario is where images lie, with two that differ in their last layer, or one
// file.
type scenario struct {
	name    string
	size    int    // in MB
	kind    string // engine, rock, registry or file
	uploads []upload
}

// upload is an image, or a file, and what finds it.
type upload struct {
	ref    string // ID, path or name@digest
	engine string // DOCKER_HOST of its engine
	sum    string // digest of its config, or of the file
}

// parse reads the flags.
func (b *bench) parse(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	sizes := flags.String("size", "1500", "sizes of images, uncompressed, in MB, separated by commas")
	tools := flags.String("tools", strings.Join(toolNames, ","), "what to measure, separated by commas")
	rate := flags.String("rate", "0B/s", "bytes a second of the link to the servers; 0 for no limit")
	flags.IntVar(&b.rounds, "rounds", 3, "how often each thing is measured")
	flags.DurationVar(&b.link.rtt, "rtt", 0, "round trip of each connection to a server")
	flags.StringVar(&b.json, "json", "", "file to write every run to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil || size < 1 {
			return fmt.Errorf("-size %s: %q is no size of 1 MB or more", *sizes, text)
		}
		b.sizes = append(b.sizes, size)
	}
	if b.rounds < 1 {
		return fmt.Errorf("-rounds %d: nothing is measured in less than 1 round", b.rounds)
	}
	b.tools = strings.Split(*tools, ",")
	for _, name := range b.tools {
		if !slices.Contains(toolNames, name) {
			return fmt.Errorf("-tools %s: there is no %q to measure; there are %v", *tools, name, toolNames)
		}
	}
	bytes, err := humanize.ParseBytes(strings.TrimSuffix(*rate, "/s"))
	if err != nil {
		return fmt.Errorf("-rate %s: %w; write it like 30MB/s", *rate, err)
	}
	b.link.rate = float64(bytes)
	return nil
}

// run prints the report to out. A run that failed shows in the report and makes
// an error after it.
func run(ctx context.Context, args []string, out io.Writer) error {
	b := &bench{link: &link{}}
	defer func() {
		for _, remove := range slices.Backward(b.cleanup) {
			remove()
		}
	}()
	if err := b.parse(args); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for round := range b.rounds {
		progress("round %d of %d", round+1, b.rounds)
		for _, s := range b.scenarios {
			for i := range b.tools { // in another order each round, so that none has always the same one before it
				if err := b.cycle(ctx, s, b.tools[(i+round)%len(b.tools)]); err != nil {
					return err
				}
			}
		}
	}
	return b.report(ctx, out)
}

func (b *bench) prepare(ctx context.Context) (err error) {
	if b.work, err = os.MkdirTemp("", "upload-resource-bench-"); err != nil {
		return fmt.Errorf("making a folder for the measurements: %w", err)
	}
	b.cleanup = append(b.cleanup, func() {
		if err := os.RemoveAll(b.work); err != nil {
			progress("remove the folder %s by hand: %v", b.work, err)
		}
	})
	progress("building the action")
	b.program = filepath.Join(b.work, "upload-resource")
	if err := program.Build(ctx, b.program); err != nil {
		return err
	}
	b.chooseTools()
	if b.source, err = b.newHub(); err != nil {
		return err
	}
	b.cleanup = append(b.cleanup, b.source.close)
	engines := b.findEngines(ctx)
	for _, size := range b.sizes {
		if err := b.makeScenarios(ctx, size, engines); err != nil {
			return fmt.Errorf("making images of %d MB: %w", size, err)
		}
	}
	return ctx.Err()
}

// cycle measures a tool in one round, on a Charmhub of its own. Each run leaves
// it as the next one needs it.
func (b *bench) cycle(ctx context.Context, s scenario, tool string) error {
	h, err := b.newHub()
	if err != nil {
		return err
	}
	defer h.close()
	first, last := s.uploads[0], s.uploads[len(s.uploads)-1]
	if tool == "save" {
		return b.measure(ctx, h, s, exportAlone, tool, first)
	}
	err = errors.Join(b.measure(ctx, h, s, firstPush, tool, first), b.measure(ctx, h, s, unchanged, tool, first))
	if s.kind != "file" {
		err = errors.Join(err, b.measure(ctx, h, s, changed, tool, last))
		if tool == "skopeo" && slices.Contains(b.tools, "action") {
			err = errors.Join(err, b.measure(ctx, h, s, filled, "action", last))
		}
	}
	return err
}

// progress tells who waits what is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
