package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// toolNames are what -tools takes. skopeo-inspect-copy runs the three skopeo
// commands that charmcraft 4 runs to upload an image, save the least that a tool
// has to wait for when it asks an engine with a graph driver for an image.
var toolNames = []string{"action", "skopeo", "skopeo-inspect-copy", "crane", "regctl", "save"}

// chooseTools leaves out those that aren't on PATH.
func (b *bench) chooseTools() {
	b.tools = slices.DeleteFunc(b.tools, func(name string) bool {
		program, _, _ := strings.Cut(name, "-")
		if name == "save" {
			program = "docker"
		}
		_, err := exec.LookPath(program)
		if name == "action" || err == nil {
			return false
		}
		b.leaveOut("%s, which isn't installed", name)
		return true
	})
}

// commands returns what a tool runs, one after another, to bring an upload to
// the home's repository, and how a table names that; nothing where it can't.
func (b *bench) commands(tool string, s scenario, u upload, h *home) (named string, commands [][]string) {
	latest, saved := h.repository+":latest", filepath.Join(h.tmp, "image.tar")
	save := []string{"docker", "save", "--output", saved, u.ref}
	regctl := []string{"regctl", "--host", "reg=" + host(h.repository) + ",tls=disabled", "--host", "reg=" + host(u.ref) + ",tls=disabled", "image"}
	from := map[string]string{"engine": "docker-daemon:", "rock": "oci-archive:", "registry": "docker://"}[s.kind] + u.ref
	skopeo := func(command, prefix string, args ...string) []string { // asks neither TMPDIR nor DOCKER_HOST
		all := []string{"skopeo", "--insecure-policy", "--tmpdir", h.tmp, command, "--" + prefix + "tls-verify=false"}
		if u.engine != "" {
			all = append(all, "--"+prefix+"daemon-host="+u.engine)
		}
		return append(all, args...)
	}
	switch {
	case tool == "action":
		return "this action", [][]string{{b.program}}
	case s.kind == "file":
		return "", nil
	case tool == "skopeo":
		return "skopeo copy", [][]string{skopeo("copy", "src-", "--dest-tls-verify=false", from, "docker://"+latest)}
	case tool == "skopeo-inspect-copy" && s.kind == "registry":
		return "", nil // inspect lists the tags, of which there are none
	case tool == "skopeo-inspect-copy":
		return "skopeo inspect --raw, inspect, copy --all --preserve-digests", [][]string{
			skopeo("inspect", "", "--raw", from),
			skopeo("inspect", "", from),
			skopeo("copy", "src-", "--all", "--preserve-digests", "--dest-tls-verify=false", from, "docker://"+h.repository),
		}
	case tool == "crane" && s.kind == "engine":
		return "docker save, crane push", [][]string{save, {"crane", "push", saved, latest}}
	case tool == "crane" && s.kind == "registry":
		return "crane copy", [][]string{{"crane", "copy", u.ref, latest}}
	case tool == "regctl" && s.kind == "engine":
		return "docker save, regctl image import", [][]string{save, append(regctl, "import", latest, saved)}
	case tool == "regctl" && s.kind == "rock":
		return "regctl image import", [][]string{append(regctl, "import", latest, u.ref)}
	case tool == "regctl":
		return "regctl image copy", [][]string{append(regctl, "copy", u.ref, latest)}
	case tool == "save" && s.kind == "engine":
		return "docker save", [][]string{{"docker", "save", u.ref}}
	}
	return "", nil
}

// host is the one that a reference begins with.
func host(reference string) string {
	host, _, _ := strings.Cut(reference, "/")
	return host
}
