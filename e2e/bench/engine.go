package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"github.com/charmhub-actions/upload-resource/e2e/program"
)

// findEngines returns the machine's own engine, and one that keeps images in
// containerd, as far as they are there.
func (b *bench) findEngines(ctx context.Context) (engines []scenario) {
	hosts := []string{cmp.Or(os.Getenv("DOCKER_HOST"), client.DefaultDockerHost)}
	if has(b.rows, "containerd") {
		if host, err := b.startDockerd(ctx, os.Getenv("UPLOAD_RESOURCE_DOCKERD")); err != nil {
			b.leaveOut("images in the containerd image store: %v", err)
		} else {
			hosts = append(hosts, host)
		}
	}
	for _, host := range hosts {
		var answer client.SystemInfoResult
		engine, err := client.New(client.FromEnv, client.WithHost(host))
		if err == nil {
			answer, err = engine.Info(ctx, client.InfoOptions{})
		}
		if err != nil {
			b.leaveOut("images in a Docker engine: %v", err)
			continue
		}
		kind, store := "graph", "graph driver "+answer.Info.Driver
		if strings.Contains(fmt.Sprint(answer.Info.DriverStatus), "io.containerd.snapshotter") {
			kind, store = "containerd", "containerd image store"
		}
		title := fmt.Sprintf("image by ID, %s (engine %s)", store, answer.Info.ServerVersion)
		loaded := map[string]string{} // ID by folder
		engines = append(engines, scenario{kind: kind, name: title, engine: host,
			put: func(ctx context.Context, image localImage) (string, error) {
				if id, ok := loaded[image.folder]; ok {
					return id, nil
				}
				id, remove, err := program.Load(ctx, engine, fmt.Sprintf("upload-resource-bench-%d", os.Getpid()), image.Image)
				b.cleanup = append(b.cleanup, remove)
				loaded[image.folder] = id
				return id, err
			}})
	}
	return engines
}

// startDockerd starts a dockerd that keeps images in containerd, until the bench
// ends, and returns where that answers.
func (b *bench) startDockerd(ctx context.Context, binary string) (host string, err error) {
	if binary == "" {
		return "", errors.New("UPLOAD_RESOURCE_DOCKERD names no dockerd of version 29 or newer")
	}
	dir, err := os.MkdirTemp("", "bench-") // the name of a socket has to be short
	if err != nil {
		return "", err
	}
	b.cleanup = append(b.cleanup, func() error { return os.RemoveAll(dir) })
	host, args := program.Dockerd(dir)
	service := command(context.WithoutCancel(ctx), binary, append(args, "--log-level", "error")...)
	service.Stderr = os.Stderr
	if err := service.Start(); err != nil {
		return "", err
	}
	b.cleanup = append(b.cleanup, func() error {
		return errors.Join(service.Process.Signal(syscall.SIGTERM), service.Wait())
	})
	for range 60 {
		if err = command(ctx, "docker", "--host", host, "version").Run(); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Second)
	}
	return host, err
}
