package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// home is what one run finds: a machine where nothing ran before, logged in to
// the registry.
type home struct {
	dir        string
	tmp        string
	repository string   // name of the charm's repository, with the registry's host
	inputs     []string // of the action
	log        *os.File // what the run printed
}

// newHome makes a home below work, for a Charmhub or for none.
func newHome(work string, h *hub) (_ *home, err error) {
	dir, err := os.MkdirTemp(work, "home-")
	if err != nil {
		return nil, fmt.Errorf("making a run's folder: %w", err)
	}
	made := &home{dir: dir, tmp: filepath.Join(dir, "tmp")}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("filling a run's folder: %w", err), os.RemoveAll(dir))
		}
	}()
	if err := os.Mkdir(made.tmp, 0o700); err != nil {
		return nil, err
	}
	if h != nil {
		if err := made.login(h); err != nil {
			return nil, err
		}
	}
	made.log, err = os.Create(filepath.Join(dir, "log"))
	return made, err
}

// login leaves the registry's password where docker login does; skopeo and
// crane read it there.
func (h *home) login(to *hub) error {
	repository, username, password := to.RegistryAuth(charmName, resourceName)
	h.repository = repository
	h.inputs = append(to.Env(), "INPUT_CHARM="+charmName, "INPUT_RESOURCE="+resourceName)
	host, _, _ := strings.Cut(repository, "/")
	login := base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	config, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"auth": login}}})
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(h.dir, ".docker"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.dir, ".docker", "config.json"), config, 0o600)
}

// environment is all that a run sees. The last variable makes skopeo keep its
// cache of blobs in the home, as for every user but root, whose cache is shared
// by all homes.
func (h *home) environment() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "TMPDIR=" + h.tmp, "XDG_RUNTIME_DIR=" + h.dir,
		"_CONTAINERS_ROOTLESS_UID=1000",
	}
	if engine := os.Getenv("DOCKER_HOST"); engine != "" {
		env = append(env, "DOCKER_HOST="+engine)
	}
	return env
}

// logged returns the end of what the run printed, without the lines that tell
// GitHub's runner what is secret.
func (h *home) logged() string {
	content, err := os.ReadFile(h.log.Name())
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "::add-mask::") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-10):], "")
}

// result returns the reference of what a run left in the repository: the
// action's output remote-image, or else the tag that the other tools push.
func (h *home) result() string {
	output, _ := os.ReadFile(h.output())
	if _, rest, ok := strings.Cut("\n"+string(output), "\nremote-image<<"); ok {
		if lines := strings.Split(rest, "\n"); len(lines) > 1 {
			return lines[1]
		}
	}
	return h.repository + ":latest"
}

// output is the file for the action's outputs.
func (h *home) output() string { return filepath.Join(h.dir, "output") }

func (h *home) remove() {
	_ = h.log.Close()
	if err := os.RemoveAll(h.dir); err != nil {
		progress("a run's folder could not be removed: %v", err)
	}
}
