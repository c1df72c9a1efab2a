// Command bench measures the action beside what a user would pick instead, on
// this machine, and prints the medians as a Markdown table:
//
//	go run ./e2e/bench [-size 1500] [-rounds 3] [-tools action,skopeo,crane,charmcraft,save]
//	go run ./e2e/bench -sizes 100,1500,4000 [-rounds 3]
//
// The first form compares tools, each for a first push, a rerun with the same
// image, and one with an image whose last layer changed. The second shows what
// a rerun costs the action for images of several sizes.
//
// The images are made of the machine's own files and are loaded into the Docker
// engine; every run has a home and temporary folder of its own, so that it finds
// no cache, and is sent to a sandbox of Charmhub on loopback. Images and files
// are removed at the end, also after an interrupt. It needs Linux, docker and
// skopeo, and crane when that is measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
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

// options are the flags; sizes are in MB, millions of bytes.
type options struct {
	size   int
	sizes  []int // if any, sizes are compared instead of tools
	rounds int
	tools  []string
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.IntVar(&o.size, "size", 1500, "size of the image, uncompressed, in MB")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each thing is measured")
	tools := flags.String("tools", strings.Join(toolNames(), ","), "what to measure, separated by commas")
	flags.Func("sizes", "compare reruns with images of these sizes in MB, separated by commas, instead of tools", o.addSizes)
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.tools = strings.Split(*tools, ",")
	if o.size < 10 || o.rounds < 1 {
		return o, fmt.Errorf("an image of %d MB measured %d times says nothing: take 10 MB or more, and a round or more", o.size, o.rounds)
	}
	return o, nil
}

func (o *options) addSizes(list string) error {
	for text := range strings.SplitSeq(list, ",") {
		size, err := strconv.Atoi(text)
		if err != nil || size < 10 {
			return fmt.Errorf("%q is no size of 10 MB or more", text)
		}
		o.sizes = append(o.sizes, size)
	}
	return nil
}

// run prints the report to out. A run that failed shows in the report and
// makes an error after it.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close(ctx)
	measure := b.compareTools
	if len(o.sizes) > 0 {
		measure = b.compareSizes
	}
	if err := measure(ctx); err != nil {
		return err
	}
	b.results.table(out, len(o.sizes) == 0)
	_, _ = fmt.Fprintf(out, "\n%s\n", b.conditions(ctx))
	return b.results.err()
}

// progress tells who waits what is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
