package main

import (
	"os/exec"
	"slices"
	"strings"
)

// recipe is a list of command lines with which a tool uploads an image to the charm's repository. newHome sets the
// variables in them.
type recipe struct {
	tool  string // as -tools has it
	kinds string // what it can upload
	row   string // how a table names it: what is run
	lines []string
}

const (
	skopeo     = "skopeo --insecure-policy --tmpdir $TMPDIR "
	skopeoCopy = skopeo + "copy --src-daemon-host=$DOCKER_HOST --src-tls-verify=false --dest-tls-verify=false "
	skopeoLook = skopeo + "inspect --daemon-host=$DOCKER_HOST --tls-verify=false "
	save       = "docker save --output $TMPDIR/image.tar $REF"
	regctl     = "regctl --host reg=$REGISTRY,tls=disabled --host reg=$SOURCE_REGISTRY,tls=disabled image "
)

// ownTool is the action's name in tables.
const ownTool = "this action"

// recipes has skopeo-inspect-copy for what charmcraft 4 runs to upload an image,
// and save for the least that a tool has to wait for when it asks an engine with
// a graph driver for an image.
var recipes = []recipe{
	{"action", "graph containerd rock registry file", ownTool, []string{"$ACTION"}},
	{"action-zstd", "graph", "this action, compression: zstd", []string{"env INPUT_COMPRESSION=zstd $ACTION"}},
	// An old skopeo and a new engine have no version of the API in common.
	{"skopeo", "containerd", "docker save, skopeo copy",
		[]string{save, skopeoCopy + "oci-archive:$TMPDIR/image.tar docker://$REPOSITORY:latest"}},
	{"skopeo", "graph rock registry", "skopeo copy", []string{skopeoCopy + "$FROM docker://$REPOSITORY:latest"}},
	{"skopeo-inspect-copy", "graph rock", "skopeo inspect --raw, inspect, copy --all --preserve-digests", []string{
		skopeoLook + "--raw $FROM", skopeoLook + "$FROM", skopeoCopy +
			"--all --preserve-digests $FROM docker://$REPOSITORY"}},
	{"crane", "graph containerd", "docker save, crane push",
		[]string{save, "crane push $TMPDIR/image.tar $REPOSITORY:latest"}},
	{"crane", "rock", "tar --extract, crane push", []string{"tar --extract --file $REF --directory $TMPDIR",
		"crane push $TMPDIR $REPOSITORY:latest"}},
	{"crane", "registry", "crane copy", []string{"crane copy $REF $REPOSITORY:latest"}},
	{"regctl", "graph containerd", "docker save, regctl image import",
		[]string{save, regctl + "import $REPOSITORY:latest $TMPDIR/image.tar"}},
	{"regctl", "rock", "regctl image import", []string{regctl + "import $REPOSITORY:latest $REF"}},
	{"regctl", "registry", "regctl image copy", []string{regctl + "copy $REF $REPOSITORY:latest"}},
	{"save", "graph containerd", "docker save", []string{"docker save $REF"}},
}

// toolNames returns what -tools takes.
func toolNames() string {
	var names []string
	for _, r := range recipes {
		names = append(names, r.tool)
	}
	return strings.Join(slices.Compact(names), ",")
}

// chooseRecipes leaves out those whose programs aren't on PATH.
func (b *bench) chooseRecipes() {
	for _, r := range recipes {
		missing := func(line string) bool {
			program, _, _ := strings.Cut(line, " ")
			_, err := exec.LookPath(program)
			return err != nil && program != "$ACTION"
		}
		switch {
		case !has(b.tools, r.tool):
		case slices.ContainsFunc(r.lines, missing):
			b.leaveOut("%s, which isn't installed", r.row)
		default:
			b.recipes = append(b.recipes, r)
		}
	}
}
