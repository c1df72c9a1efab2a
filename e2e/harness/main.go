// Package harness is what the end-to-end tests share. They test the action as
// its users run it: the built program, a real registry, a real container engine,
// and other people's tools as judges of the result. Only Charmhub is a stand-in,
// see e2e/sandbox. The tests are in the packages beside this one, by subject.
package harness

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// Root is the repository's root, from the folder of any package of tests.
const Root = "../.."

var (
	// Program is the path of the action's binary, built by Main.
	Program string
	// Shell is the path of a small static shell for images, built by Main.
	Shell string

	peak string // path of a program that measures another's memory, built by Main
)

// Main builds the programs that tests run, runs the tests, and returns the exit
// code for TestMain. It reports a failed build on the standard error.
func Main(m *testing.M) int {
	flag.Parse()
	runMoreAtOnce()
	dir, err := os.MkdirTemp("", "upload-resource-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	defer removeActionImage()
	Program, Shell, peak = filepath.Join(dir, "upload-resource"), filepath.Join(dir, "sh"), filepath.Join(dir, "peak")
	testdata := Root + "/e2e/harness/testdata/"
	for binary, source := range map[string]string{Program: Root, Shell: testdata + "sh", peak: testdata + "peak"} {
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", source, err, out)
			return 1
		}
	}
	return m.Run()
}

// runMoreAtOnce lets twice as many tests run at once as there are cores, unless
// the command line says how many: many of them wait for a time-out.
func runMoreAtOnce() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	}
}
