package main

import (
	"fmt"
	"go/build"
	"os/exec"
	"path/filepath"
)

// The names that -tools takes, except for the action's.
const (
	skopeoName     = "skopeo"
	craneName      = "crane"
	charmcraftName = "charmcraft"
	saveName       = "save"
	actionName     = "action"
)

func toolNames() []string {
	return []string{actionName, skopeoName, craneName, charmcraftName, saveName}
}

// tool is a way to bring an image from the engine to a repository.
type tool struct {
	name  string
	steps func(*home, source) []step // to be run one after another
}

// step is one program to run.
type step struct {
	args  []string
	env   []string // besides the home's
	quiet bool     // what it prints is the image
}

// source is what to bring: an image in the engine, or the one in an OCI archive
// if that has a path. Only the action takes archives.
type source struct {
	image   *loaded
	archive string
}

// chooseTools returns the tools of those names, in that order.
func chooseTools(action tool, names []string) ([]tool, error) {
	var chosen []tool
	for _, name := range names {
		t := tool{name: name}
		switch name {
		case actionName:
			t = action
		case skopeoName:
			t.steps = skopeoCopy
		case craneName:
			crane, err := findCrane()
			if err != nil {
				return nil, err
			}
			t.steps = cranePush(crane)
		case charmcraftName:
			t.steps = charmcraft
		case saveName:
			t.steps = save
		default:
			return nil, fmt.Errorf("there is no tool %q to measure: there are %v", name, toolNames())
		}
		chosen = append(chosen, t)
	}
	return chosen, nil
}

func actionTool(program string) tool {
	return tool{actionName, func(h *home, src source) []step {
		env := append([]string{
			"GITHUB_ACTIONS=true", "GITHUB_OUTPUT=" + h.output(),
			"GITHUB_STEP_SUMMARY=" + filepath.Join(h.dir, "summary"),
		}, h.inputs...)
		if src.archive != "" {
			env = append(env, "INPUT_IMAGE="+src.archive, "GITHUB_WORKSPACE="+filepath.Dir(src.archive))
		} else {
			env = append(env, "INPUT_DIGEST="+src.image.id)
		}
		return []step{{args: []string{program}, env: env}}
	}}
}

func skopeoCopy(h *home, src source) []step {
	return []step{h.skopeo("copy", "--dest-tls-verify=false",
		"docker-daemon:"+src.image.id, "docker://"+h.repository+":latest")}
}

// skopeo doesn't ask TMPDIR where it may keep an image.
func (h *home) skopeo(args ...string) step {
	return step{args: append([]string{"skopeo", "--insecure-policy", "--tmpdir", h.tmp}, args...)}
}

// charmcraft is what charmcraft 4 runs to upload an image: it looks at it
// twice, for which skopeo exports all of it, and then copies it.
func charmcraft(h *home, src source) []step {
	from := "docker-daemon:" + src.image.id
	return []step{
		h.skopeo("inspect", "--raw", from),
		h.skopeo("inspect", from),
		h.skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", from, "docker://"+h.repository),
	}
}

// cranePush goes through a file, since crane reads an archive more than once.
func cranePush(crane string) func(*home, source) []step {
	return func(h *home, src source) []step {
		path := filepath.Join(h.tmp, "image.tar")
		return []step{
			{args: []string{"docker", "save", "--output", path, src.image.id}},
			{args: []string{crane, "push", path, h.repository + ":latest"}},
		}
	}
}

// save is the least that a tool has to wait for when it has to ask the engine.
func save(_ *home, src source) []step {
	return []step{{args: []string{"docker", "save", src.image.id}, quiet: true}}
}

// findCrane looks also where go install puts it.
func findCrane() (string, error) {
	if path, err := exec.LookPath(craneName); err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join(build.Default.GOPATH, "bin", craneName))
}
