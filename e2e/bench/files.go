package main

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// file is a file of this machine that can be in an image.
type file struct {
	path string
	size int64
	mode fs.FileMode
}

// findFiles returns the regular files below the folders, those that are
// missing left out, in an order that is always the same and mixes all kinds.
func findFiles(roots ...string) ([]file, error) {
	type drawn struct {
		file
		lot [sha256.Size]byte
	}
	var found []drawn
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() { // or it may not be read, or has no content
				if info, err := entry.Info(); err == nil {
					found = append(found, drawn{file{path, info.Size(), info.Mode().Perm()}, sha256.Sum256([]byte(path))})
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("looking for files in %s: %w", root, err)
		}
	}
	slices.SortFunc(found, func(a, b drawn) int {
		return cmp.Or(slices.Compare(a.lot[:], b.lot[:]), strings.Compare(a.path, b.path))
	})
	files := make([]file, len(found))
	for i, f := range found {
		files[i] = f.file
	}
	return files, nil
}

// take returns files of the given bytes in all, or up to 1 % less, and the
// files that are left.
func take(from []file, bytes int64) (taken, left []file, err error) {
	var sum int64
	for i, f := range from {
		if sum >= bytes-bytes/100 {
			left = append(left, from[i:]...)
			break
		}
		if sum+f.size > bytes || !readable(f.path) {
			left = append(left, f)
			continue
		}
		taken = append(taken, f)
		sum += f.size
	}
	if sum < bytes-bytes/100 {
		return nil, nil, errors.New("this machine has too few files for an image of this size: take a smaller one")
	}
	slices.SortFunc(taken, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return taken, left, nil
}

func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// tarOf returns the files as a tar, made while it is read and the same
// each time.
func tarOf(files []file) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := writeFiles(t, files)
		if err == nil {
			err = t.Close()
		}
		_ = w.CloseWithError(err)
	}()
	return r
}

func writeFiles(t *tar.Writer, files []file) error {
	for _, f := range files {
		header := tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.path, "/"), Size: f.size, Mode: int64(f.mode)}
		if err := t.WriteHeader(&header); err != nil {
			return err
		}
		content, err := os.Open(f.path)
		if err != nil {
			return err
		}
		_, err = io.CopyN(t, content, f.size)
		_ = content.Close()
		if err != nil {
			return fmt.Errorf("reading %s, which something else may have changed: %w", f.path, err)
		}
	}
	return nil
}
