package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/charmhub-actions/upload-resource/e2e/program"
)

// measurement is what one run of a tool took.
type measurement struct {
	Scenario    string         `json:"scenario"` // where the image was
	SizeMB      int            `json:"size_mb"`
	Situation   string         `json:"situation"`
	Tool        string         `json:"tool"` // what was run
	Condition   string         `json:"condition"`
	Seconds     float64        `json:"seconds"`
	RoundTrips  float64        `json:"round_trips,omitempty"` // time ÷ rtt
	SentBytes   int64          `json:"sent_bytes"`
	Requests    map[string]int `json:"requests"` // by server
	MemoryBytes int64          `json:"peak_memory_bytes"`
	DiskBytes   int64          `json:"peak_disk_bytes"`
	Failure     string         `json:"failure,omitempty"` // why the run doesn't count
}

// home is what one run finds: a machine where nothing ran before, logged in to
// both registries.
type home struct {
	dir, tmp   string
	repository string // of the charm, with the registry's host
	env        []string
}

func (b *bench) newHome(h *hub, s scenario, u upload) (*home, error) {
	dir, err := os.MkdirTemp(b.work, "home-")
	if err != nil {
		return nil, err
	}
	made := &home{dir: dir, tmp: filepath.Join(dir, "tmp")}
	logins := map[string]authn.AuthConfig{} // where docker login leaves them
	for _, at := range []*hub{b.source, h} {
		repository, username, password := at.RegistryAuth(charmName, imageResource)
		logins[host(repository)] = authn.AuthConfig{Username: username, Password: password}
		made.repository = repository
	}
	config, err := json.Marshal(map[string]any{"auths": logins})
	if err == nil {
		err = errors.Join(os.Mkdir(made.tmp, 0o700), os.Mkdir(filepath.Join(dir, ".docker"), 0o700),
			os.WriteFile(filepath.Join(dir, ".docker", "config.json"), config, 0o600))
	}
	// The last of these makes skopeo keep its cache of blobs in the home, as for
	// every user but root, whose cache all homes would share.
	made.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + made.tmp, "XDG_RUNTIME_DIR=" + dir, "DOCKER_HOST=" + u.engine,
		"GITHUB_ACTIONS=true", "GITHUB_OUTPUT=" + made.output(), "GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary"),
		"GITHUB_WORKSPACE=" + b.work, "_CONTAINERS_ROOTLESS_UID=1000",
	}, h.Env()...)
	input, resource := "INPUT_IMAGE=", imageResource
	switch s.kind {
	case "engine":
		input = "INPUT_DIGEST="
	case "file":
		input, resource = "INPUT_FILEPATH=", fileResource
	}
	made.env = append(made.env, "INPUT_CHARM="+charmName, "INPUT_RESOURCE="+resource, input+u.ref)
	return made, errors.Join(err, os.WriteFile(made.output(), nil, 0o600))
}

// output is the file for the action's outputs.
func (h *home) output() string { return filepath.Join(h.dir, "output") }

// measure runs a tool once, if it can do that, on a home of its own, and keeps
// what that took. A tool that fails isn't an error, but a result.
func (b *bench) measure(ctx context.Context, h *hub, s scenario, situation, tool string, u upload) error {
	home, err := b.newHome(h, s, u)
	if err != nil {
		return fmt.Errorf("making a run's folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(home.dir) }()
	named, commands := b.commands(tool, s, u, home)
	if commands == nil {
		return nil
	}
	m := measurement{Scenario: s.name, SizeMB: s.size, Situation: situation, Tool: named, Condition: b.link.String()}
	syscall.Sync() // or this run pays for what the one before wrote
	h.ResetRequests()
	began := time.Now()
	for _, args := range commands {
		memory, disk, err := home.run(ctx, args)
		m.MemoryBytes, m.DiskBytes = max(m.MemoryBytes, memory), max(m.DiskBytes, disk)
		if err != nil {
			m.Failure = err.Error()
			break
		}
	}
	m.Seconds = time.Since(began).Seconds()
	if b.link.rtt > 0 {
		m.RoundTrips = m.Seconds / b.link.rtt.Seconds()
	}
	m.Requests, m.SentBytes = h.counts()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Failure == "" && situation != exportAlone {
		outputs, err := program.Outputs(home.output())
		if err := errors.Join(err, h.check(ctx, s, u, outputs)); err != nil {
			m.Failure = err.Error()
		}
	}
	b.measured = append(b.measured, m)
	progress("  %s, %d MB, %s, %s: %.3g s, %s sent, %v %s", s.name, s.size, situation, named, m.Seconds, humanBytes(m.SentBytes), m.Requests, m.Failure)
	return nil
}

// run runs one program to its end and returns the most bytes of memory and of
// disk that it had at once.
func (h *home) run(ctx context.Context, args []string) (memory, disk int64, err error) {
	log, err := os.Create(filepath.Join(h.dir, "log"))
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = log.Close() }()
	c := command(ctx, args[0], args[1:]...)
	c.Env, c.Dir, c.Stderr = h.env, h.dir, log
	if args[0] != "docker" { // which prints the image
		c.Stdout = log
	}
	if err := c.Start(); err != nil {
		return 0, 0, err
	}
	watched := watch(c.Process.Pid, h.tmp)
	err = c.Wait()
	memory, disk = watched()
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		var lines []string // without those that tell GitHub's runner what is secret
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "::add-mask::") {
				lines = append(lines, line)
			}
		}
		err = fmt.Errorf("%s: %w\n%s", args[0], err, strings.Join(lines[max(0, len(lines)-10):], ""))
	}
	return memory, disk, err
}

// command is a program that an interrupt from the terminal doesn't reach, but
// the end of ctx does: what has to be cleaned up is known here alone.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...) //nolint:gosec // the programs are those of tools.go
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// watch looks at a process, which starts none itself and has its temporary files
// in tmp, until the function that it returns is called, which returns the peaks.
// Looks are a millisecond apart at first and get rarer for a process that would
// feel them.
//
// The kernel's own account after the end, ru_maxrss, won't do: it begins with the
// size of the process that started this one, which holds a registry.
func watch(pid int, tmp string) (peaks func() (memory, disk int64)) {
	var memory, disk int64
	var watching sync.WaitGroup
	done, began := make(chan struct{}), time.Now()
	watching.Go(func() {
		for {
			memory, disk = max(memory, highWater(pid)), max(disk, diskUse(pid, tmp))
			select {
			case <-done:
				return
			case <-time.After(min(max(time.Since(began)/20, time.Millisecond), 100*time.Millisecond)):
			}
		}
	})
	return func() (int64, int64) {
		close(done)
		watching.Wait()
		return memory, disk
	}
}

// highWater returns the largest resident size of a process so far, in bytes;
// 0 when it has ended.
func highWater(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	var kibibytes int64
	_, _ = fmt.Sscan(rest, &kibibytes)
	return kibibytes << 10
}

// diskUse returns the bytes on disk of the files below dir, and of those that a
// process holds open though their names are gone, each counted once.
func diskUse(pid int, dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() { // or it went while we looked
			if info, err := entry.Info(); err == nil {
				sum += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return nil
	})
	unnamed := map[uint64]int64{}
	descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, descriptor := range descriptors {
		if info, err := os.Stat(descriptor); err == nil && info.Mode().IsRegular() {
			if stat := info.Sys().(*syscall.Stat_t); stat.Nlink == 0 {
				unnamed[stat.Ino] = stat.Blocks * 512
			}
		}
	}
	for _, size := range unnamed {
		sum += size
	}
	return sum
}
