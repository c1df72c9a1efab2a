// Command sandbox serves a Charmhub with its registry on loopback until it is interrupted, for trying the action
// without an account:
//
//	go run ./e2e/sandbox -charm my-charm -resource my-image=oci-image -resource my-file=file,optional -env-file PATH
//
// It prints one line for each request. When it is ready it writes to PATH the variables that lead the action,
// charmcraft and workflows in act to it, one NAME=value a line. The file has a token; only its owner may read it, and
// the sandbox removes it at its end.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/charmhub-actions/upload-resource/e2e/program"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func main() { program.Main("sandbox", run) }

// run serves until ctx ends. Its first line on out says that it is ready.
func run(ctx context.Context, args []string, out io.Writer) error {
	asked, err := parse(args)
	if err != nil {
		return err
	}
	charm, envFile := asked.options.Charms[0], asked.envFile
	asked.options.Log = func(line string) { _, _ = fmt.Fprintln(out, line) }
	sandbox, err := server.Start(asked.options)
	if err != nil {
		return err
	}
	defer func() { _ = sandbox.Close() }()
	if envFile != "" {
		if err := writeFile(envFile, strings.Join(sandbox.Env(), "\n")+"\n"); err != nil {
			return fmt.Errorf("writing the variables: %w", err)
		}
		defer func() { _ = os.Remove(envFile) }()
	}
	_, _ = fmt.Fprintf(out, "serving charm %s: store %s, registry %s\n", charm.Name, sandbox.StoreURL, sandbox.RegistryURL)
	<-ctx.Done()
	return sandbox.Close()
}

// parseResource reads NAME=TYPE or NAME=TYPE,optional.
func parseResource(text string) server.Resource {
	name, kind, _ := strings.Cut(text, "=")
	kind, optional := strings.CutSuffix(kind, ",optional")
	return server.Resource{Name: name, Type: kind, Optional: optional}
}

// writeFile puts the whole file in place at once, so that who waits for it never reads half of it.
func writeFile(path, content string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".sandbox-*")
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
