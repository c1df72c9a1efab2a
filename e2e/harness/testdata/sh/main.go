// Sh is as much of a shell as the Dockerfile and images of tests need, in one
// static file: `sh -c` with one simple command, whose words may be quoted with
// apostrophes and may begin with assignments. Without arguments it does nothing.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
)

var (
	word       = regexp.MustCompile(`(?:'[^']*'|[^\s'])+`)
	assignment = regexp.MustCompile(`^\w+=`)
	beyond     = regexp.MustCompile("[|&;<>()$`\\\\\"*?#~\n]") // what a real shell gives a meaning to
)

func main() {
	if len(os.Args) == 1 {
		return
	}
	if len(os.Args) != 3 || os.Args[1] != "-c" || beyond.MatchString(os.Args[2]) {
		fail(fmt.Errorf("this is no real shell, and can't do %q", os.Args[1:]))
	}
	words := word.FindAllString(os.Args[2], -1)
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "'", "")
	}
	env := os.Environ()
	for len(words) > 0 && assignment.MatchString(words[0]) {
		env, words = append(env, words[0]), words[1:]
	}
	if len(words) == 0 {
		return
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		fail(err)
	}
	fail(syscall.Exec(path, words, env))
}

// fail prints the error and exits with 127, as a shell does when a command is missing.
func fail(err error) {
	fmt.Fprintln(os.Stderr, "sh:", err)
	os.Exit(127)
}
