package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/moby/moby/client"
)

// label marks the images that the demo built.
const label = "io.github.charmhub-actions.upload-resource.demo"

// How long an engine may take: to say that it is there, to build an image, and
// to remove the images.
const (
	answerTime = 5 * time.Second
	buildTime  = 2 * time.Minute
	removeTime = 30 * time.Second
)

// engine makes images in a container engine.
type engine struct {
	api     *client.Client
	version string
	program string // the content of the lower layer
	run     string // tells this demo's images from those of another
}

// newImageMaker returns the container engine, or else the maker of archives.
func newImageMaker(ctx context.Context, program, workspace string) imageMaker {
	without := &archives{program: program, workspace: workspace}
	api, err := client.New(client.FromEnv)
	if err != nil {
		return without
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	answer, err := api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		_ = api.Close()
		return without
	}
	return &engine{api: api, version: answer.Version, program: program, run: rand.Text()}
}

func (e *engine) String() string {
	return "built in the container engine, which is version " + e.version
}

func (e *engine) make(ctx context.Context, greeting string) (string, error) {
	program, err := os.ReadFile(e.program)
	if err != nil {
		return "", err
	}
	source, err := tarOf(
		entry{name: "Dockerfile", content: dockerfile(e.label())},
		entry{name: "upload-resource", content: program, executable: true},
		entry{name: "greeting", content: []byte(greeting)},
	)
	if err != nil {
		return "", err
	}
	id, err := e.build(ctx, source)
	if err != nil {
		return "", fmt.Errorf("building an image in the container engine: %w; to do without one, set DOCKER_HOST=tcp://127.0.0.1:1", err)
	}
	return "digest=" + id, ctx.Err()
}

// build ends what it began even when ctx ends: an engine whose build is broken
// off may still make images, after those that are there were removed.
func (e *engine) build(ctx context.Context, source []byte) (id string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), buildTime)
	defer cancel()
	answer, err := e.api.ImageBuild(ctx, bytes.NewReader(source), client.ImageBuildOptions{Remove: true, ForceRemove: true})
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	return builtID(answer.Body)
}

// builtID finds the image's ID in the messages of a build.
func builtID(messages io.Reader) (id string, err error) {
	decoder := json.NewDecoder(messages)
	for {
		var message struct {
			Error string
			Aux   struct{ ID string }
		}
		switch err := decoder.Decode(&message); {
		case errors.Is(err, io.EOF) && id != "":
			return id, nil
		case err != nil:
			return "", fmt.Errorf("the build ended without an image: %w", err)
		case message.Error != "":
			return "", errors.New(message.Error)
		case message.Aux.ID != "":
			id = message.Aux.ID
		}
	}
}

// close removes the images with their layers, also those of a failed build.
func (e *engine) close() error {
	defer func() { _ = e.api.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	built, err := e.api.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("label", e.label())})
	if err != nil {
		return fmt.Errorf("listing the images to remove from the container engine: %w", err)
	}
	var errs []error
	for _, image := range built.Items {
		if _, err := e.api.ImageRemove(ctx, image.ID, client.ImageRemoveOptions{Force: true, PruneChildren: true}); err != nil {
			errs = append(errs, fmt.Errorf("removing image %s from the container engine: %w", image.ID, err))
		}
	}
	return errors.Join(errs...)
}

// label is on every image of this demo.
func (e *engine) label() string { return label + "=" + e.run }

// dockerfile is one whose layers are those of the archives. The label comes
// first, so that demos at the same time don't share images by the build cache.
func dockerfile(label string) []byte {
	return []byte("FROM scratch\nLABEL " + label + "\n" +
		"COPY upload-resource /app/upload-resource\nCOPY greeting /app/greeting\n")
}
