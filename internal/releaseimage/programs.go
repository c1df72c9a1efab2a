package releaseimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// platforms lists those of a release: each for which Charmhub has charms and Go
// compiles, and people's laptops.
var platforms = []struct{ os, architecture string }{
	{"linux", "amd64"}, {"linux", "arm64"}, {"linux", "ppc64le"}, {"linux", "riscv64"}, {"linux", "s390x"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
}

// Program is the program of a release, compiled for one platform.
type Program struct {
	OS, Architecture string // as Go names them
	Content          []byte
}

// Compile compiles the program in a module's root folder for each platform of a
// release.
func Compile(ctx context.Context, folder, version string) (programs []Program, err error) {
	toolchain, err := toolchain(ctx, folder)
	if err != nil {
		return nil, err
	}
	for _, p := range platforms {
		content, err := compile(ctx, folder, toolchain, p.os, p.architecture, version)
		if err != nil {
			return nil, fmt.Errorf("compiling for %s/%s: %w", p.os, p.architecture, err)
		}
		programs = append(programs, Program{p.os, p.architecture, content})
	}
	return programs, nil
}

// checksums is the name of the file that lists the programs' SHA-256, in the form
// that sha256sum and shasum check.
const checksums = "SHA256SUMS"

// Write writes the programs into a folder, as upload-resource-OS-ARCHITECTURE, and
// the file SHA256SUMS beside them. It makes the folder if there is none.
func Write(folder string, programs []Program) error {
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	var sums strings.Builder
	for _, p := range programs {
		name := "upload-resource-" + p.OS + "-" + p.Architecture
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(p.Content), name)
		if err := os.WriteFile(filepath.Join(folder, name), p.Content, 0o755); err != nil { //nolint:gosec // a program
			return err
		}
	}
	return os.WriteFile(filepath.Join(folder, checksums), []byte(sums.String()), 0o644) //nolint:gosec // to be published
}

// toolchain returns the version of Go that the module names: another one would
// compile the same source to other bytes.
func toolchain(ctx context.Context, folder string) (string, error) {
	var module struct{ Toolchain string }
	out, err := goCommand(ctx, folder, os.Environ(), "mod", "edit", "-json")
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil {
		return "", fmt.Errorf("reading go.mod: %w", err)
	}
	if module.Toolchain == "" {
		return "", errors.New("reading go.mod: it has no line toolchain; add one, so that every machine compiles " +
			"with the same Go")
	}
	return module.Toolchain, nil
}

// compile returns the program of a folder, compiled for a platform. Whatever could
// change its bytes is set here, and not left to the environment.
func compile(ctx context.Context, folder, toolchain, system, architecture, version string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "release-image-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "program")
	env := append(os.Environ(),
		"GOENV=off", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN="+toolchain, "GOEXPERIMENT=", "GOFIPS140=off", "CGO_ENABLED=0",
		"GOOS="+system, "GOARCH="+architecture, "GOAMD64=v1", "GOARM64=v8.0", "GOPPC64=power8", "GORISCV64=rva20u64",
	)
	_, err = goCommand(ctx, folder, env, "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid= -X main.version="+version, "-o", path, ".")
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// goCommand runs the go command in a folder and returns what it printed.
func goCommand(ctx context.Context, folder string, env []string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the arguments are fixed but for the version
	command.Dir, command.Env = folder, env
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
}
