package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// engine is a Docker engine, found at host as DOCKER_HOST has it.
type engine struct{ host, kind string }

// findEngines returns the machine's own engine, and one that keeps images in
// containerd, as far as they are there.
func (b *bench) findEngines(ctx context.Context) (engines []engine) {
	hosts := []string{os.Getenv("DOCKER_HOST")}
	if dockerd := os.Getenv("UPLOAD_RESOURCE_DOCKERD"); dockerd == "" {
		b.leaveOut("images in the containerd image store: UPLOAD_RESOURCE_DOCKERD names no dockerd of version 29 or newer")
	} else if host, err := b.startDockerd(ctx, dockerd); err != nil {
		b.leaveOut("images in the containerd image store: %v", err)
	} else {
		hosts = append(hosts, host)
	}
	for _, host := range hosts {
		answer, err := docker(ctx, host, nil, "info", "--format", "{{.ServerVersion}} {{.Driver}} {{.DriverStatus}}")
		var version, driver string
		if _, _ = fmt.Sscan(answer, &version, &driver); err != nil || driver == "" {
			b.leaveOut("images in a Docker engine: docker isn't installed, or none answers")
			continue
		}
		if driver = "graph driver " + driver; strings.Contains(answer, "io.containerd.snapshotter") {
			driver = "containerd image store"
		}
		engines = append(engines, engine{host, driver + " (engine " + version + ")"})
	}
	return engines
}

// startDockerd starts a containerd and a dockerd that keeps images in it, both
// until the bench ends, and returns where that answers.
func (b *bench) startDockerd(ctx context.Context, binary string) (host string, err error) {
	dir, err := os.MkdirTemp("", "bench-") // the name of a socket has to be short
	if err != nil {
		return "", err
	}
	b.cleanup = append(b.cleanup, func() { _ = os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	host = "unix://" + at("d.sock")
	if err := os.WriteFile(at("daemon.json"), []byte("{}"), 0o600); err != nil {
		return "", err
	}
	log, err := os.Create(at("log"))
	if err != nil {
		return "", err
	}
	defer func() { _ = log.Close() }()
	for _, args := range [][]string{
		{"containerd", "--config", os.DevNull, "--root", at("c"), "--state", at("cs"), "--address", at("c.sock")},
		{binary, "--config-file", at("daemon.json"), "--data-root", at("d"), "--exec-root", at("x"), "--pidfile", at("pid"),
			"--host", host, "--containerd", at("c.sock"), "--feature", "containerd-snapshotter=true",
			"--storage-driver", "native", "--iptables=false", "--ip6tables=false", "--bridge=none"},
	} {
		service := command(context.WithoutCancel(ctx), args[0], args[1:]...)
		service.Stdout, service.Stderr = log, log
		if err := service.Start(); err != nil {
			return "", err
		}
		b.cleanup = append(b.cleanup, func() {
			_ = service.Process.Signal(syscall.SIGTERM)
			_ = service.Wait()
		})
	}
	for range 60 {
		if _, err = docker(ctx, host, nil, "info"); err == nil || ctx.Err() != nil {
			return host, err
		}
		time.Sleep(time.Second)
	}
	text, _ := os.ReadFile(at("log"))
	return "", fmt.Errorf("dockerd doesn't answer: %w\n%s", err, text[max(0, len(text)-1000):])
}

// docker runs the client and returns what it prints.
func docker(ctx context.Context, host string, input io.Reader, args ...string) (string, error) {
	c := command(ctx, "docker", args...)
	c.Env, c.Stdin = append(os.Environ(), "DOCKER_HOST="+host), input
	out, err := c.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = fmt.Errorf("docker %s: %w\n%s", args[0], err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// load gives an image to an engine, without a file in between, under a tag that
// no other bench uses, and returns the ID that it has there.
func (b *bench) load(ctx context.Context, e engine, label string, image v1.Image) (upload, error) {
	tag, err := name.NewTag(fmt.Sprintf("upload-resource-bench-%d:%s", os.Getpid(), label))
	if err != nil {
		return upload{}, err
	}
	b.cleanup = append(b.cleanup, func() { // in its own time: an interrupt has ended ctx
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		if _, err := docker(ctx, e.host, nil, "image", "rm", "--force", tag.String()); err != nil {
			progress("the engine still has image %s, remove it by hand: %v", tag, err)
		}
	})
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(tarball.Write(tag, image, w)) }()
	_, err = docker(ctx, e.host, r, "load", "--quiet")
	_ = r.Close()
	if err != nil {
		return upload{}, err
	}
	id, err := docker(ctx, e.host, nil, "image", "inspect", "--format", "{{.Id}}", tag.String())
	return upload{ref: id, engine: e.host}, err
}
