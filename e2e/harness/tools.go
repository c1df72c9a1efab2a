package harness

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Need skips the test where a tool is missing, and fails it where nothing may
// be skipped.
func Need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if err := available(tool); err == nil {
			continue
		} else if os.Getenv("UPLOAD_RESOURCE_E2E") == "required" {
			t.Fatalf("%s is required: %v", tool, err)
		} else {
			t.Skipf("%s is not here: %v", tool, err)
		}
	}
}

// available reports whether a program is there; of docker, whether its engine
// answers.
func available(tool string) error {
	if tool == "docker" {
		out, err := exec.Command("docker", "info", "--format", "{{.ServerVersion}}").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	_, err := exec.LookPath(tool)
	return err
}

// ReadFile returns the content of a file.
func ReadFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Tool runs another tool and returns what it printed, trimmed.
func Tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	return strings.TrimSpace(ToolOutput(t, name, args...))
}

// ToolOutput runs another tool and returns what it printed, to the byte.
func ToolOutput(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", command, err, out.String(), errs.String())
	}
	return out.String()
}

// WriteFile writes a file, which its owner may run.
func WriteFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
}

// UniqueContent is a file's content that no other test has.
func UniqueContent() string { return rand.Text() + "\n" }

// AllAtOnce runs tests beside each other, however many processors there are.
func AllAtOnce(t *testing.T, n int, test func(t *testing.T, n int)) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { t.Run(strconv.Itoa(i), func(t *testing.T) { test(t, i) }) })
	}
	wg.Wait()
}
