package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// conditions says under what the figures were measured, in one paragraph.
func (b *bench) conditions(ctx context.Context) string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	facts := []string{
		time.Now().UTC().Format(time.DateOnly),
		"Linux " + strings.TrimSpace(string(kernel)),
		fmt.Sprintf("%d CPUs (%s)", runtime.NumCPU(), runtime.GOARCH),
		"Docker engine " + firstLine(ctx, "docker", "info", "--format", "{{.ServerVersion}} with {{.Driver}}"),
		"client " + firstLine(ctx, "docker", "version", "--format", "{{.Client.Version}}"),
		firstLine(ctx, "skopeo", "--version"),
	}
	if crane, err := findCrane(); err == nil && slices.Contains(b.options.tools, craneName) {
		facts = append(facts, "crane "+firstLine(ctx, crane, "version"))
	}
	facts = append(facts, "action "+firstLine(ctx, "git", "describe", "--always", "--dirty"), runtime.Version(), b.described(), "registry and store on loopback")
	return strings.Join(facts, "; ") + "." + notes
}

const notes = " Medians. Each run had a home without caches. The action's time includes its calls to the store and " +
	"the store's review of a new revision; the other tools stop when the image is in the registry. " +
	"Memory and disk are the tool's own, sampled; what the engine takes comes on top, for every tool that asks it for the image."

// described says what was uploaded, and how often.
func (b *bench) described() string {
	sizes := b.sizes
	if len(sizes) == 0 {
		sizes = []int{b.size}
	}
	return fmt.Sprintf("image of %s MB, uncompressed, in %d layers of %s %%; rounds: %d",
		joined(sizes, ", "), len(shares), joined(shares, ", "), b.rounds)
}

func joined(numbers []int, separator string) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(numbers), "[]"), " ", separator)
}

// firstLine returns the first line that a program prints.
func firstLine(ctx context.Context, name string, args ...string) string {
	out, err := command(ctx, name, args...).Output()
	if err != nil {
		return "of unknown version"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
