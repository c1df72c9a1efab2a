package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Folder is an open folder. Nothing outside of it is opened through it.
type Folder struct {
	root *os.Root
	name string // for messages
}

// itself, after a name, makes the system open a folder and nothing else. Opening a pipe would wait for somebody to
// write into it.
const itself = "/."

// openRoot opens a folder anywhere on the machine. Messages call it name.
func openRoot(dir, name string) (*Folder, error) {
	if err := refuse(filepath.Clean(dir)); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir + itself)
	return checked(root, name, err)
}

// checked returns root as a folder, unless opening it failed with err, or it is a part of the system (see refuse).
func checked(root *os.Root, name string, err error) (*Folder, error) {
	if err != nil {
		return nil, err
	}
	dir, err := root.Open(".")
	if err == nil {
		err = refuse(location(dir))
		_ = dir.Close()
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return &Folder{root, name}, nil
}

// Open opens a regular file beneath the folder to be read.
func (f *Folder) Open(name string) (*os.File, error) {
	file, err := f.open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", name, err)
	}
	return file, nil
}

// Close closes the folder; files that were opened in it stay open.
func (f *Folder) Close() error { return f.root.Close() }

// open is [Folder.Open] without the name in its error.
func (f *Folder) open(name string) (file *os.File, err error) {
	err = f.follow(name, func(name string) error {
		file, err = f.root.OpenFile(name, readOnly, 0)
		return err
	})
	return regular(file, err)
}

// openFolder opens a folder beneath f. Messages call it called.
func (f *Folder) openFolder(name, called string) (*Folder, error) {
	var root *os.Root
	err := f.follow(name, func(name string) (err error) {
		root, err = f.root.OpenRoot(name + itself)
		return err
	})
	return checked(root, called, err)
}

// follow calls open for a name. The system's own way of opening beneath a folder decides what is inside, but it takes
// every link with an absolute path for one that leads out: where one leads back in, open is called for where that is.
func (f *Folder) follow(name string, open func(name string) error) error {
	err := open(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	resolved, leak := f.resolve(name)
	if leak != nil {
		return leak
	}
	if resolved == name {
		return err
	}
	return open(resolved)
}

// maxLinks is how many links Linux follows in a path.
const maxLinks = 40

// linkError says that a symbolic link leads out of a folder, so it isn't followed.
type linkError struct{ name, link, target, folder string }

// Error names the link, where it leads, and what to do.
func (e *linkError) Error() string {
	text := fmt.Sprintf("%s is a symbolic link that leads out of %s, to %s, and is not followed; put what is meant in "+
		"its place",
		e.link, e.folder, e.target)
	if e.link != e.name {
		return e.name + ": " + text
	}
	return text
}

// resolve returns a path beneath the folder without the links in it, or an error about the first that leads out.
func (f *Folder) resolve(name string) (string, error) {
	at, links := ".", 0
	for rest := elements(name); len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		target, err := f.root.Readlink(next)
		if err != nil { // it is no link
			at = next
			continue
		}
		if links++; links > maxLinks {
			return name, nil
		}
		leak := &linkError{name: name, link: next, target: target, folder: f.name}
		if filepath.IsAbs(target) {
			inside, ok := f.below(target)
			if !ok {
				return "", leak
			}
			at, rest = ".", append(elements(inside), rest...)
			continue
		}
		if !filepath.IsLocal(filepath.Join(at, target)) {
			return "", leak
		}
		rest = append(elements(target), rest...)
	}
	return at, nil
}

// elements returns the names in a path, without empty ones.
func elements(path string) []string {
	return slices.DeleteFunc(strings.Split(path, string(filepath.Separator)), func(e string) bool { return e == "" })
}

// below returns an absolute path as seen from the folder, if it is beneath it.
func (f *Folder) below(path string) (string, bool) {
	dir, err := filepath.Abs(f.root.Name())
	if err != nil {
		return "", false
	}
	if inside, ok := relative(dir, path); ok {
		return inside, true
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", false
	}
	return relative(resolved, path)
}

// relative returns a path as seen from a folder, if it is that folder or beneath it. Both are absolute; no link is
// followed.
func relative(dir, path string) (string, bool) {
	inside, err := filepath.Rel(dir, path)
	return inside, err == nil && filepath.IsLocal(inside)
}
