package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command is a program that an interrupt from the terminal doesn't reach, but
// the end of ctx does: what has to be cleaned up is known here alone.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...) //nolint:gosec // the programs are those of tools.go
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// peak is the most that a process held at once, in bytes.
type peak struct{ memory, disk int64 }

func (p peak) max(q peak) peak { return peak{max(p.memory, q.memory), max(p.disk, q.disk)} }

// watch looks at a process until the function that it returns is called,
// which returns the peak. The process starts nothing itself, and its temporary
// files are in tmp.
//
// The kernel's own account after the end, ru_maxrss, won't do: it begins with the
// size of the process that started this one, which holds a registry.
func watch(pid int, tmp string) func() peak {
	var p peak
	var wg sync.WaitGroup
	done := make(chan struct{})
	began := time.Now()
	wg.Go(func() {
		for {
			p = p.max(peak{highWater(pid), diskUse(pid, tmp)})
			select {
			case <-done:
				return
			case <-time.After(pause(time.Since(began))):
			}
		}
	})
	return func() peak {
		close(done)
		wg.Wait()
		return p
	}
}

// pause is the time between two looks: short for a process that may be over in
// milliseconds, longer for one that would feel being looked at.
func pause(running time.Duration) time.Duration {
	return min(max(running/20, time.Millisecond), 100*time.Millisecond)
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

// diskUse returns the bytes on disk of the files below dir, and of those that
// a process holds open though their names are gone.
func diskUse(pid int, dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() { // or it went while we looked
			if info, err := entry.Info(); err == nil {
				sum += blocks(info)
			}
		}
		return nil
	})
	for _, size := range unnamed(pid) {
		sum += size
	}
	return sum
}

// unnamed returns the bytes on disk of the files without a name that a process
// holds open, by inode, since one may be open several times.
func unnamed(pid int) map[uint64]int64 {
	sizes := map[uint64]int64{}
	descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, descriptor := range descriptors {
		info, err := os.Stat(descriptor)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink == 0 {
			sizes[stat.Ino] = blocks(info)
		}
	}
	return sizes
}

func blocks(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512
	}
	return 0
}
