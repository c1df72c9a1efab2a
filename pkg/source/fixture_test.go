package source

import (
	"testing"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

const maxManifest = image.MaxManifest

// testOpener returns an opener without logins and without a workspace.
func testOpener() *Opener { return NewOpener(zap.NewNop(), anonymous, workspace.Workspace{}) }

// openText opens a reference that needs no network.
func openText(tb testing.TB, text string) (Source, error) {
	tb.Helper()
	ref, err := Parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	src, err := testOpener().Open(tb.Context(), ref)
	if err == nil {
		tb.Cleanup(func() { _ = src.Close() })
	}
	return src, err
}

// openArchive writes the archive to a file, and opens it with a transport before the path and a selector after it.
func openArchive(tb testing.TB, transport, selector string, archive []byte) (Source, error) {
	tb.Helper()
	return openText(tb, transport+imagetest.TempFile(tb, "image.tar", archive)+selector)
}

// openLayout returns what the layout holds.
func openLayout(tb testing.TB, l imagetest.Layout) image.ImageOrIndex {
	tb.Helper()
	src, err := openText(tb, "oci:"+l.Folder(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return imageOf(tb, src)
}

// unpackedOf returns a source as the unpacked image that it is, nil if it isn't.
func unpackedOf(src Source) *Unpacked {
	u, _ := src.(*Unpacked)
	return u
}

// imageOf returns the image or index of a source, nil if it is unpacked.
func imageOf(tb testing.TB, src Source) image.ImageOrIndex {
	tb.Helper()
	backed, ok := src.(Backed)
	if !ok {
		return nil
	}
	m, err := backed.Manifest(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return m
}
