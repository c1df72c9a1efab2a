package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/moby/moby/client"
)

func TestWithoutEngine(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	story := play(t)
	if !strings.Contains(story, "compiling from source (minutes if the build cache is empty) ... ") {
		t.Errorf("the story doesn't say what takes so long:\n%s", story)
	}
	if !strings.Contains(story, "no container engine answers") {
		t.Errorf("the story doesn't say that it is without an engine:\n%s", story)
	}
}

func TestWithEngine(t *testing.T) {
	needEngine(t)
	story := play(t)
	if !strings.Contains(story, "in the container engine, which is version") {
		t.Errorf("the story doesn't say that the image is the engine's:\n%s", story)
	}
	if left := loadedImages(t); len(left) > 0 {
		t.Errorf("images were left in the engine: %v", left)
	}
}

// play runs the demo, which has to leave nothing and to fit on a page.
func play(t *testing.T) string {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	nothingLeft(t, tmp)
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) > 50 {
		t.Errorf("the story has %d lines", len(lines))
	}
	for _, line := range lines {
		if utf8.RuneCountInString(line) > 100 {
			t.Errorf("too long a line: %s", line)
		}
	}
	return out.String()
}

func TestInterrupt(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	for _, at := range []string{"Charmhub ", "1. "} {
		t.Run(at, func(t *testing.T) { interrupted(t, at) })
	}
}

func TestInterruptWithEngine(t *testing.T) {
	needEngine(t)
	interrupted(t, "1. ")
	if left := loadedImages(t); len(left) > 0 {
		t.Errorf("images were left in the engine: %v", left)
	}
}

// interrupted runs the demo and interrupts it at a line that begins so.
func interrupted(t *testing.T, at string) {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	err := run(ctx, nil, trigger{text: at, act: interrupt})
	if err == nil {
		t.Error("the interrupted demo went on to its end")
	}
	nothingLeft(t, tmp)
}

// trigger acts when a line begins with the text.
type trigger struct {
	text string
	act  func()
}

func (w trigger) Write(p []byte) (int, error) {
	if strings.HasPrefix(strings.TrimSpace(string(p)), w.text) {
		w.act()
	}
	return len(p), nil
}

// nothingLeft fails the test if the folder has a file in it.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the demo left files behind: %v %v", left, err)
	}
}

// needEngine skips the test if no Docker engine answers, or fails it if the environment requires an engine.
func needEngine(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "info", "--format", "{{.ServerVersion}}").CombinedOutput()
	switch {
	case err == nil:
	case os.Getenv("UPLOAD_RESOURCE_E2E") == "required":
		t.Fatalf("docker is required: %v: %s", err, out)
	default:
		t.Skipf("docker is not here: %v: %s", err, out)
	}
}

// loadedImages returns the demo's images that an engine has.
func loadedImages(t *testing.T) (ids []string) {
	t.Helper()
	api, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = api.Close() }()
	list, err := api.ImageList(t.Context(), client.ImageListOptions{All: true,
		Filters: client.Filters{}.Add("reference", repository)})
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range list.Items {
		ids = append(ids, image.ID)
	}
	return ids
}
