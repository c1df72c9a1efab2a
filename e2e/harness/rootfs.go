package harness

import (
	"archive/tar"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// RootFS writes a root file system whose bytes depend on its content alone:
// no times, no owners.
type RootFS struct{ *tar.Writer }

// NewRootFS returns a root file system that is written as a tar archive. The
// caller closes it.
func NewRootFS(w io.Writer) RootFS { return RootFS{tar.NewWriter(w)} }

// Dir adds a folder with a mode.
func (r RootFS) Dir(to string, mode int64) error {
	return r.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: to + "/", Mode: mode})
}

// link adds a symbolic link at the path to, which points to target.
func (r RootFS) link(to, target string) error {
	return r.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: to, Linkname: target, Mode: 0o777})
}

// Tree writes a file, or all of a folder that a build can need.
func (r RootFS) Tree(to, from string) error {
	from, err := filepath.EvalSymlinks(from) // distributions like to link parts of Go
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(file string, entry fs.DirEntry, err error) error {
		within, _ := filepath.Rel(from, file)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || to == "usr/local/go/src" && within == "cmd"):
			return fs.SkipDir
		case entry.IsDir() || strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, ".lock"):
			return nil
		}
		return r.file(path.Join(to, filepath.ToSlash(within)), file)
	})
}

// file adds a copy of the file from at the path to. Of the mode, it keeps whether the file is executable.
func (r RootFS) file(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	mode := 0o644 | int64(info.Mode().Perm()&0o111)
	if err := r.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: mode,
		Size: int64(len(content))}); err != nil {
		return err
	}
	_, err = r.Write(content)
	return err
}

// script writes a program that is text.
func (r RootFS) script(to, text string) error {
	if err := r.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: 0o755,
		Size: int64(len(text))}); err != nil {
		return err
	}
	_, err := io.WriteString(r, text)
	return err
}
