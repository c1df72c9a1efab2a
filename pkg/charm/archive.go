package charm

import (
	"archive/zip"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
)

// Archive is what a charm file, as charmcraft packs it, contains.
type Archive struct {
	Metadata
	Bases []Base // one for each architecture
	SHA3  string // SHA3-384 of the file in lower-case hex, by which Charmhub knows it
}

// Bounds on what is read of a charm file, in bytes. Real ones have some ten million, a hundredth of that in their
// directory.
const (
	maxArchive   = 1 << 30
	maxDirectory = 16 << 20
)

// ReadArchive reads a charm file of size bytes: its metadata.yaml, which must have a name, and its manifest.yaml. It
// also computes the file's digest. It writes no file, and uses a bounded amount of memory for any input.
func ReadArchive(r io.ReaderAt, size int64) (Archive, error) {
	a, err := readArchive(r, size)
	if err != nil {
		return Archive{}, fmt.Errorf("not a charm file: %w; give one that `charmcraft pack` made", err)
	}
	// Hash last, so that a large file that isn't a charm is not read.
	digest := sha3.New384()
	if _, err := io.Copy(digest, io.NewSectionReader(r, 0, size)); err != nil {
		return Archive{}, err
	}
	a.SHA3 = hex.EncodeToString(digest.Sum(nil))
	return a, nil
}

// readArchive is [ReadArchive] without the digest, and without the advice in its error.
func readArchive(r io.ReaderAt, size int64) (a Archive, err error) {
	if size > maxArchive {
		return a, fmt.Errorf("more than %d bytes, which no charm has", maxArchive)
	}
	// The reader collects all of the directory in memory, and believes no count.
	directory := &limitedReaderAt{r, maxDirectory}
	archive, err := zip.NewReader(directory, size)
	if err != nil {
		return a, err
	}
	directory.left = math.MaxInt64 // from here on, only what is asked for is read
	metadata, err := open(archive, "metadata.yaml")
	if err != nil {
		return a, err
	}
	if a.Metadata, err = ReadMetadata(metadata); err == nil && a.Name == "" {
		err = errors.New("no name")
	}
	if err != nil {
		return a, fmt.Errorf("metadata.yaml: %w", err)
	}
	manifest, err := open(archive, "manifest.yaml")
	if err != nil {
		return a, err
	}
	if a.Bases, err = readBases(manifest); err != nil {
		return a, fmt.Errorf("manifest.yaml: %w", err)
	}
	return a, nil
}

// limitedReaderAt fails once more than left bytes were asked for, in all.
type limitedReaderAt struct {
	io.ReaderAt
	left int64
}

// ReadAt implements [io.ReaderAt].
func (r *limitedReaderAt) ReadAt(p []byte, offset int64) (int, error) {
	if r.left -= int64(len(p)); r.left < 0 {
		return 0, fmt.Errorf("the archive's directory has more than %d bytes, which no charm's has", maxDirectory)
	}
	return r.ReaderAt.ReadAt(p, offset)
}

// open opens a regular file at the top level of the archive. It refuses a name that is there twice, because tools
// differ in which of the two they use.
func open(archive *zip.Reader, name string) (io.Reader, error) {
	var found *zip.File
	for _, file := range archive.File {
		if file.Name != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%s is in the archive twice", name)
		}
		found = file
	}
	switch {
	case found == nil:
		return nil, fmt.Errorf("no %s in the archive", name)
	case !found.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	file, err := found.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return file, nil
}

// readBases reads the bases of a charm's manifest, each with one architecture. There is at least one.
func readBases(manifest io.Reader) ([]Base, error) {
	d, err := readYAML(manifest)
	if err != nil {
		return nil, err
	}
	var bases []Base
	for _, n := range d.entries(d.fields(d.root, "the manifest")["bases"], "bases") {
		fields := d.fields(n, "a base")
		base := Base{Name: d.text(fields["name"], "name"), Channel: d.text(fields["channel"], "channel")}
		architectures := d.entries(fields["architectures"], "architectures")
		if base.Name == "" || base.Channel == "" || len(architectures) == 0 {
			d.complain(n, "a base lacks its name, channel or architectures")
		}
		for _, n := range architectures {
			base.Architecture = d.text(n, "an architecture")
			if err := CheckArchitecture(base.Architecture); err != nil {
				d.complain(n, "architecture %w", err)
			}
			bases = append(bases, base)
		}
	}
	if err := d.err(); err != nil || len(bases) > 0 {
		return bases, err
	}
	return nil, errors.New("no bases")
}
