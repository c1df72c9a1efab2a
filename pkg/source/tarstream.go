package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/compression"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/spool"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// These limits are above what any real image has. An archive beyond them is malicious, and would fill the memory.
const (
	maxEntries = 20_000 // files in an archive
	maxName    = 1024   // bytes in a file's name
)

// limit bounds a JSON document by its bytes and its number of values, because a short value takes much memory when it
// is parsed.
type limit struct{ bytes, values int }

var (
	manifestLimit = limit{image.MaxManifest, 20_000} // also of an index
	configLimit   = limit{image.MaxConfig, 100_000}
)

// openFunc opens a tar stream at its beginning.
type openFunc func(ctx context.Context) (io.ReadCloser, error)

// tarStream reads the regular files of a tar stream. It refuses what no tool writes: two files of the same name, of
// which different readers would use different ones; sparse files, whose holes can be of any size; names and links
// that lead out of the archive; and anything but files, folders and symbolic links.
type tarStream struct {
	*tar.Reader
	seen  map[string]bool
	links map[string]string // targets of the symbolic links so far
	count int
}

// newTarStream returns a reader of the tar stream r.
func newTarStream(r io.Reader) *tarStream {
	return &tarStream{Reader: tar.NewReader(r), seen: map[string]bool{}, links: map[string]string{}}
}

// files yields the regular files with cleaned names. If the stream ends early, it yields the error last.
func (t *tarStream) files() iter.Seq2[*tar.Header, error] {
	return func(yield func(*tar.Header, error) bool) {
		for {
			header, err := t.Next()
			if err == io.EOF { //nolint:errorlint // a wrapped one is a failure
				return
			}
			if err == nil {
				err = t.check(header)
			}
			if err != nil {
				yield(nil, explainTar(err))
				return
			}
			if header.Typeflag == tar.TypeReg && !yield(header, nil) {
				return
			}
		}
	}
}

// explainTar adds advice to an error about a damaged archive.
func explainTar(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the archive is damaged, cut short or no image at all: %w; write or download it again", err)
	}
	return err
}

// check cleans the name of a file and remembers it.
func (t *tarStream) check(header *tar.Header) error {
	header.Name = path.Clean(header.Name)
	if t.count++; t.count > maxEntries {
		return fmt.Errorf("the archive holds more than %d files, which no image has", maxEntries)
	}
	if len(header.Name) > maxName || len(header.Linkname) > maxName {
		return fmt.Errorf("the archive holds a file whose name has more than %d bytes, which no image has", maxName)
	}
	if sparse(header) {
		return fmt.Errorf("the file %q in the archive is sparse; write the archive again without sparse files", header.Name)
	}
	if leadsOut(header.Name) {
		return fmt.Errorf("the file %q leads out of the archive, which is malicious; use another image", header.Name)
	}
	switch header.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		target := path.Join(path.Dir(header.Name), header.Linkname) //nolint:gosec // looked at, never opened
		if path.IsAbs(header.Linkname) || leadsOut(target) {
			return fmt.Errorf(
				"the link %q leads out of the archive, to %q, which is malicious; use another image",
				header.Name,
				header.Linkname,
			)
		}
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf(
			"%q in the archive is a hard link, a device or another special file; write the archive again with plain files",
			header.Name,
		)
	}
	if t.seen[header.Name] {
		return fmt.Errorf("the archive holds two files named %q; write it again", header.Name)
	}
	t.seen[header.Name] = true
	if header.Typeflag == tar.TypeSymlink {
		t.links[header.Name] = header.Linkname
	}
	return nil
}

// leadsOut reports whether a cleaned name is outside the folder that an archive is unpacked in.
func leadsOut(name string) bool {
	return path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../")
}

// sparse reports whether a file has holes, in any of GNU tar's formats.
func sparse(header *tar.Header) bool {
	if header.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for record := range header.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// document returns the content of the current file. It fails if the document exceeds the limit.
func (t *tarStream) document(header *tar.Header, most limit) ([]byte, error) {
	raw, err := readDocument(t, header.Size, most)
	if err != nil {
		return nil, fmt.Errorf("cannot read %q in the archive: %w", header.Name, err)
	}
	return raw, nil
}

// readDocument returns a JSON document of about size bytes. It fails if the document exceeds the limit.
func readDocument(r io.Reader, size int64, most limit) ([]byte, error) {
	buffer := bytes.NewBuffer(make([]byte, 0, min(max(size, 0), int64(most.bytes))+bytes.MinRead))
	_, err := buffer.ReadFrom(io.LimitReader(r, int64(most.bytes)+1))
	switch {
	case err != nil:
		return nil, err
	case buffer.Len() > most.bytes:
		return nil, fmt.Errorf("larger than %d bytes, more than any real one", most.bytes)
	case countValues(buffer.Bytes()) > most.values:
		return nil, fmt.Errorf("more than %d values, more than in any real one", most.values)
	}
	return buffer.Bytes(), nil
}

// countValues returns the number of values in the objects and lists of a JSON text without decoding it. An empty list
// or object counts as one value.
func countValues(raw []byte) (n int) {
	for i, inString := 0, false; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			inString = !inString
		case inString && c == '\\':
			i++ // the next byte is escaped
		case !inString && (c == '{' || c == '[' || c == ','):
			n++
		}
	}
	return n
}

// tarFile is a tar archive in a file, compressed or not. The file is opened once and can be read several times.
type tarFile struct {
	*os.File
	size int64
}

// openTar opens the archive at path.
func openTar(files workspace.Workspace, path string) (*tarFile, error) {
	file, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &tarFile{File: file, size: info.Size()}, nil
}

// open returns the archive from its beginning. If it isn't compressed, the result is a [contextSection], so files can
// be skipped by seeking.
func (f *tarFile) open(ctx context.Context) (io.ReadCloser, error) {
	plain := contextSection{ctx, spool.Reader{SectionReader: io.NewSectionReader(f.File, 0, f.size)}}
	content, compressed, err := new(compression.Bounds).Decompress(plain)
	if err != nil || compressed {
		return content, err
	}
	_, err = plain.Seek(0, io.SeekStart)
	return plain, err
}

// contextSection is a part of a file. Reads fail when its context ends.
type contextSection struct {
	ctx context.Context //nolint:containedctx // io.Reader takes none
	spool.Reader
}

// Read implements [io.Reader].
func (s contextSection) Read(p []byte) (int, error) {
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	return s.Reader.Read(p)
}
