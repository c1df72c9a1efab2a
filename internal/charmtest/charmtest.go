// Package charmtest makes charm files for tests.
package charmtest

import (
	"archive/zip"
	"fmt"
	"io"
	"strings"
	"testing"
)

// base has the fields of a base in the program and in the sandbox. They don't share a type, so that the sandbox can
// check the program.
type base = struct {
	Name         string `json:"name"`
	Channel      string `json:"channel"`
	Architecture string `json:"architecture"`
}

// Metadata returns a charm's metadata.yaml that declares a required image and an optional file.
func Metadata(name string) string {
	return "name: " + name + "\nresources:\n  my-image: {type: oci-image}\n  my-file: {type: file, optional: true}\n"
}

// File returns the content of a charm file in charmcraft's format.
func File[B interface{ ~base }](tb testing.TB, metadata string, bases ...B) string {
	tb.Helper()
	manifest := "charmcraft-version: 4.0.0\nbases:\n"
	for _, b := range bases {
		b := base(b)
		manifest += fmt.Sprintf("- {name: %s, channel: %q, architectures: [%s]}\n", b.Name, b.Channel, b.Architecture)
	}
	var content strings.Builder
	archive := zip.NewWriter(&content)
	for _, file := range [][2]string{{"metadata.yaml", metadata}, {"manifest.yaml", manifest}, {"src/charm.py", "pass"}} {
		w, err := archive.Create(file[0])
		if err != nil {
			tb.Fatal(err)
		}
		_, _ = io.WriteString(w, file[1])
	}
	if err := archive.Close(); err != nil {
		tb.Fatal(err)
	}
	return content.String()
}
