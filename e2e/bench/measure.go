package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/charmhub-actions/upload-resource/e2e/program"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// measurement is the cost of one run of a tool: time, bytes, requests, memory and disk.
type measurement struct {
	Scenario    string         `json:"scenario"` // where the image was
	SizeMB      int64          `json:"size_mb"`
	Situation   string         `json:"situation"`
	Tool        string         `json:"tool"` // what was run
	Condition   string         `json:"condition"`
	Seconds     float64        `json:"seconds"`
	Store       float64        `json:"store_seconds"`         // of these, while a call to the store was under way
	RoundTrips  float64        `json:"round_trips,omitempty"` // time ÷ rtt
	SentBytes   int64          `json:"sent_bytes"`
	Requests    map[string]int `json:"requests"` // by server
	MemoryBytes int64          `json:"peak_memory_bytes"`
	DiskBytes   int64          `json:"peak_disk_bytes"`
	Failure     string         `json:"failure,omitempty"` // why the run doesn't count
}

// home is the environment of one run, on a machine where nothing ran before,
// logged in to both registries. It also has what the recipes' command lines refer
// to.
type home map[string]string

// newHome makes the folder and the environment of one run, logged in to the hub's registry and to the source's. The
// caller removes the folder that HOME names.
func (b *bench) newHome(h *hub, s scenario, u upload) (home, error) {
	dir, err := os.MkdirTemp(b.work, "home-")
	if err != nil {
		return nil, err
	}
	made := home{
		"PATH": os.Getenv("PATH"), "HOME": dir, "TMPDIR": filepath.Join(dir, "tmp"), "XDG_RUNTIME_DIR": dir,
		"DOCKER_HOST": s.engine, "GITHUB_ACTIONS": "true",
		"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
		"GITHUB_WORKSPACE": b.work, "INPUT_CHARM": charmName, "INPUT_RESOURCE": imageResource,
		// Makes skopeo keep its cache of blobs in the home, as for every user but
		// root, whose cache all homes would share.
		"_CONTAINERS_ROOTLESS_UID": "1000",
		"ACTION":                   b.program, "REF": u.ref, "REPOSITORY": h.repository, "REGISTRY": h.registry(),
		"SOURCE_REGISTRY": b.source.registry(),
	}
	for _, variable := range h.Env() {
		name, value, _ := strings.Cut(variable, "=")
		made[name] = value
	}
	switch s.kind {
	case "graph", "containerd":
		made["INPUT_DIGEST"], made["FROM"] = u.ref, "docker-daemon:"+u.ref
	case "rock":
		made["INPUT_IMAGE"], made["FROM"] = u.ref, "oci-archive:"+u.ref
	case "registry":
		made["INPUT_IMAGE"], made["FROM"] = u.ref, "docker://"+u.ref
	case "file":
		made["INPUT_FILEPATH"], made["INPUT_RESOURCE"] = u.ref, fileResource
	}
	logins := map[string]authn.AuthConfig{h.registry(): h.login, b.source.registry(): b.source.login}
	config, err := json.Marshal(map[string]any{"auths": logins}) // as docker login leaves them
	return made, errors.Join(err, os.Mkdir(made["TMPDIR"], 0o700), os.Mkdir(filepath.Join(dir, ".docker"), 0o700),
		os.WriteFile(filepath.Join(dir, ".docker", "config.json"), config, 0o600), os.WriteFile(made["GITHUB_OUTPUT"], nil,
			0o600))
}

// measure runs a recipe once, in a home of its own, and records the cost. A
// tool that fails isn't an error, but a result.
func (b *bench) measure(ctx context.Context, h *hub, s scenario, situation string, r recipe, u upload) error {
	home, err := b.newHome(h, s, u)
	if err != nil {
		return fmt.Errorf("making a run's folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(home["HOME"]) }()
	m := measurement{Scenario: s.name, SizeMB: b.size, Situation: situation, Tool: r.row, Condition: b.condition()}
	syscall.Sync() // or this run waits for what the one before wrote
	h.ResetRequests()
	began := time.Now()
	for _, line := range r.lines {
		if err == nil {
			err = home.run(ctx, line, &m)
		}
	}
	m.Seconds = time.Since(began).Seconds()
	if b.link.rtt > 0 {
		m.RoundTrips = m.Seconds / b.link.rtt.Seconds()
	}
	m.SentBytes, m.Requests = h.SentBytes(), map[string]int{}
	for _, request := range h.Requests() {
		m.Requests[request.Server]++
	}
	m.Store = storeTime(h.Requests(), b.link.rtt).Seconds()
	if err == nil && situation != exportAlone {
		outputs, readErr := program.Outputs(home["GITHUB_OUTPUT"])
		err = errors.Join(readErr, h.check(ctx, s.kind, u, outputs["remote-image"]))
	}
	if err != nil {
		m.Failure = err.Error()
	}
	b.measured = append(b.measured, m)
	progress("  %s; %s; %s: %.3g s, %s sent %s", s.name, situation, r.row, m.Seconds, humanBytes(m.SentBytes), m.Failure)
	return ctx.Err()
}

// storeTime returns how long the caller waited for the store. It adds a round trip to each call. Concurrent calls
// count once, the pauses between polls of a review count too, and opening connections doesn't.
func storeTime(requests []server.Request, rtt time.Duration) (sum time.Duration) {
	var end time.Time   // of the calls so far
	var asked time.Time // end of the last question about a review
	for _, r := range requests {
		if !slices.Contains([]string{"store", "storage", "sso"}, r.Server) {
			continue
		}
		from, to := r.Began.Add(-rtt/2), r.Ended.Add(rtt/2)
		if r.Query.Has("upload-id") {
			if !asked.IsZero() {
				from = asked
			}
			asked = to
		}
		if from.Before(end) {
			from = end
		}
		if to.After(from) {
			sum += to.Sub(from)
			end = to
		}
	}
	return sum
}

// run runs one program to its end, and notes the most bytes of memory and of disk
// that it had at once. It samples each millisecond at first, and less often in
// a longer run, which sampling would slow down.
//
// The kernel's own account after the end, ru_maxrss, won't do: it begins with the
// size of the process that started this one, which holds a registry.
func (h home) run(ctx context.Context, line string, m *measurement) error {
	args := strings.Fields(line)
	for i, arg := range args {
		args[i] = os.Expand(arg, func(name string) string { return h[name] })
	}
	c := command(ctx, args[0], args[1:]...)
	c.Dir = h["HOME"]
	for name, value := range h {
		c.Env = append(c.Env, name+"="+value)
	}
	var log bytes.Buffer
	c.Stderr = &log
	if args[0] != "docker" { // which prints the image
		c.Stdout = &log
	}
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error)
	go func() { ended <- c.Wait() }()
	for pause := time.Millisecond; ; pause = min(pause*21/20, 100*time.Millisecond) {
		m.MemoryBytes = max(m.MemoryBytes, highWater(c.Process.Pid))
		m.DiskBytes = max(m.DiskBytes, diskUse(c.Process.Pid, h["TMPDIR"]))
		select {
		case <-time.After(pause):
		case err := <-ended:
			if err == nil {
				return nil
			}
			// Without the lines that name secrets to GitHub's runner.
			text := regexp.MustCompile("(?m)^::add-mask::.*\n").ReplaceAllString(log.String(), "")
			return fmt.Errorf("%s: %w\n%s", args[0], err, text[max(0, len(text)-1000):])
		}
	}
}

// command is a program that an interrupt from the terminal doesn't reach, but
// the end of ctx does: what has to be cleaned up is known here alone.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...) //nolint:gosec // the programs are those of tools.go
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// highWater returns the largest resident size of a process so far, in bytes;
// 0 when it has ended.
func highWater(pid int) (kibibytes int64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	_, _ = fmt.Sscan(rest, &kibibytes)
	return kibibytes << 10
}

// diskUse returns the bytes on disk of the files below dir, and of those that a
// process holds open though their names are gone, each counted once.
func diskUse(pid int, dir string) (sum int64) {
	files := map[uint64]int64{} // by inode
	add := func(path string, named bool) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() { // or it went while we looked
			if stat := info.Sys().(*syscall.Stat_t); named || stat.Nlink == 0 {
				files[stat.Ino] = stat.Blocks * 512
			}
		}
	}
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
		add(path, true)
		return nil
	})
	descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, descriptor := range descriptors {
		add(descriptor, false)
	}
	for _, size := range files {
		sum += size
	}
	return sum
}
