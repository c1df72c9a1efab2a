// Package workspace opens the files and folders that inputs name by a path, and nothing outside of where those may be.
// Whoever changes what is at a path, a pull request for example, doesn't choose what else of the machine is read.
//
// In GitHub Actions, everything is opened beneath the workspace. Elsewhere, the current folder is the workspace, and an
// absolute path is used as it is, unless it leads below /proc, /sys or /dev. Symbolic links are followed as long as
// they stay inside. A file is a regular one: a pipe or a device, which may have no end, is refused before a byte of it
// is read. So are files of a .git folder: a checkout stores a token in one, and a link to it doesn't lead out.
//
// No file is checked by its path and opened by it later, since it could be exchanged in between.
package workspace

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ErrFolder says that a path names a folder where a file is wanted.
var ErrFolder = errors.New("not a regular file, but a folder; give a regular file")

// Workspace is the folder whose files inputs may name. The zero value is the current folder, outside Actions.
type Workspace struct {
	dir     string // empty for the current folder
	actions bool
}

// New returns the workspace that the environment describes: the folder in GITHUB_WORKSPACE where GITHUB_ACTIONS is
// true, or else the current one. It opens nothing.
func New(getenv func(string) string) Workspace {
	if getenv("GITHUB_ACTIONS") != "true" {
		return Workspace{}
	}
	return Workspace{dir: getenv("GITHUB_WORKSPACE"), actions: true}
}

// Open opens a regular file to be read. The error names the path; it is an [ErrFolder] for a folder, and an
// [fs.ErrNotExist] for what isn't there or not in the workspace.
func (w Workspace) Open(path string) (*os.File, error) {
	file, err := w.open(path)
	return file, w.explain(path, err)
}

// open is [Workspace.Open] without advice in its error.
func (w Workspace) open(path string) (*os.File, error) {
	return open(w, path, openAnywhere, (*Folder).open)
}

// OpenFolder opens a folder, for the files beneath it; close it after use. The error names the path; it is a
// [syscall.ENOTDIR] for what is no folder.
func (w Workspace) OpenFolder(path string) (*Folder, error) {
	folder, err := w.openFolder(path)
	return folder, w.explain(path, err)
}

// openFolder is [Workspace.OpenFolder] without advice in its error.
func (w Workspace) openFolder(path string) (*Folder, error) {
	return open(w, path, func(path string) (*Folder, error) { return openRoot(path, path) },
		func(f *Folder, inside string) (*Folder, error) { return f.openFolder(inside, path) })
}

// open opens a path beneath the workspace, or anywhere if it may be.
func open[T any](
	w Workspace, path string, anywhere func(string) (T, error), beneath func(f *Folder, inside string) (T, error),
) (opened T, err error) {
	if !w.actions && filepath.IsAbs(path) {
		return anywhere(path)
	}
	folder, inside, err := w.enter(path)
	if err != nil {
		return opened, err
	}
	defer func() { _ = folder.Close() }()
	return beneath(folder, inside)
}

// Exists reports whether a path names an existing file or folder, usable or not.
func (w Workspace) Exists(path string) bool {
	file, err := w.open(path)
	if err == nil {
		_ = file.Close()
	}
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, syscall.ENAMETOOLONG)
}

// enter opens the workspace, and returns a path as seen from there.
func (w Workspace) enter(path string) (folder *Folder, inside string, err error) {
	folder, err = openRoot(cmp.Or(w.dir, "."), "the workspace")
	if err != nil {
		return nil, "", &workspaceError{err}
	}
	inside, ok := path, true
	if filepath.IsAbs(path) {
		inside, ok = folder.below(path)
	}
	if !ok || !filepath.IsLocal(inside) {
		_ = folder.Close()
		return nil, "", errOutside
	}
	return folder, inside, nil
}

// workspaceError is about the workspace itself.
type workspaceError struct{ error }

// Error says that the workspace itself can't be opened.
func (e *workspaceError) Error() string { return fmt.Sprintf("cannot open the workspace: %v", e.error) }

// Unwrap returns why.
func (e *workspaceError) Unwrap() error { return e.error }

// errOutside is about a path that leads out by itself, without a link.
var errOutside error = &missingError{"the path leads out of the workspace"}

// explain says what to do about a path that can't be opened. The runner doesn't show all of its folders to a container
// action.
func (w Workspace) explain(path string, err error) error {
	var link *linkError
	var itself *workspaceError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &itself):
		return err
	case errors.Is(err, errOutside) && !w.actions:
		return fmt.Errorf("%s is not below the current folder: %w; give its absolute path", path, err)
	case errors.Is(err, errOutside):
		return fmt.Errorf("cannot find %s: %w; put the file below github.workspace, since a container action sees the "+
			"workspace, but neither runner.temp "+
			"nor other folders of the runner", path, err)
	case errors.Is(err, fs.ErrNotExist):
		return &missingError{fmt.Sprintf("cannot find %s: %s", path, w.missing(path))}
	case errors.As(err, &link):
		return err
	default:
		return fmt.Errorf("cannot use %s: %w", path, err)
	}
}

// missingError is an [fs.ErrNotExist] with a text of its own.
type missingError struct{ text string }

// Error returns the text.
func (e *missingError) Error() string { return e.text }

// Unwrap returns [fs.ErrNotExist].
func (e *missingError) Unwrap() error { return fs.ErrNotExist }

// patternMarks make a path the pattern of a shell.
const patternMarks = "*?["

// missing returns the explanation for a path that doesn't exist. It lists files that match the path as a pattern, or
// else files with the same extension.
func (w Workspace) missing(path string) string {
	dir, name := filepath.Dir(path), filepath.Base(path)
	what, check := "no such file", "check the path"
	if w.actions {
		what, check = "the workspace has no such file", "check the path, and that an earlier step of this job wrote the file"
	}
	isPattern := strings.ContainsAny(path, patternMarks)
	var others []string
	switch ending := filepath.Ext(name); {
	case isPattern:
		check = "patterns aren't expanded"
		others = w.matching(dir, name)
	case ending != "":
		others = w.matching(dir, "*"+ending)
	}
	const most = 5
	switch {
	case len(others) > most:
		return fmt.Sprintf("%s; %s; there are: %s and %d more", what, check, strings.Join(others[:most], ", "),
			len(others)-most)
	case len(others) > 0:
		return fmt.Sprintf("%s; %s; there are: %s", what, check, strings.Join(others, ", "))
	case isPattern:
		check += "; give the path of one file"
	}
	return what + "; " + check
}

// matching returns the paths in a folder whose names match, sorted.
func (w Workspace) matching(dir, pattern string) (paths []string) {
	folder, err := w.openFolder(dir)
	if err != nil {
		return nil
	}
	defer func() { _ = folder.Close() }()
	entries, err := fs.ReadDir(folder.root.FS(), ".")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if ok, err := filepath.Match(pattern, entry.Name()); !ok || err != nil {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		if quoted := strconv.Quote(path); quoted != `"`+path+`"` {
			path = quoted
		}
		paths = append(paths, path)
	}
	return paths
}

// openAnywhere opens a file anywhere on the machine.
func openAnywhere(path string) (*os.File, error) {
	if err := refuse(filepath.Clean(path)); err != nil { // to open a device can do something
		return nil, err
	}
	file, err := os.OpenFile(path, readOnly, 0)
	return regular(file, err)
}

// readOnly doesn't wait for somebody to write into a pipe.
const readOnly = os.O_RDONLY | syscall.O_NONBLOCK

// regular returns file if it is a regular file, and not below /proc, /sys, /dev or in a .git folder; else it closes it
// and returns an error.
func regular(file *os.File, err error) (*os.File, error) {
	if errors.Is(err, syscall.ENXIO) { // which is what opening a socket gives
		return nil, fmt.Errorf("not a regular file: %w; give a regular file", err)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = ErrFolder
	case !info.Mode().IsRegular():
		err = fmt.Errorf("not a regular file, but a %s; give a regular file", kind(info.Mode()))
	default:
		at := location(file)
		if err = refuse(at); err == nil && slices.Contains(elements(filepath.Dir(at)), ".git") {
			err = errors.New("the file is in a .git folder, where a checkout stores its credentials; give a file that is part " +
				"of what was checked out, or built")
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// kind names what a file is that isn't a regular one.
func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	case mode&fs.ModeDevice != 0:
		return "device"
	case mode&fs.ModeSocket != 0:
		return "socket"
	default:
		return "special one"
	}
}

// location returns the path of an open file, with all links resolved. Linux reports it for the open file, so replacing
// the file at its path in between changes nothing.
func location(file *os.File) string {
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd())); err == nil {
		return path
	}
	if path, err := filepath.EvalSymlinks(file.Name()); err == nil {
		return path
	}
	return file.Name()
}

// refuse returns an error for a path at which the system shows its state, such as the variables of this process,
// secrets among them.
func refuse(path string) error {
	for _, system := range []string{"/proc", "/sys", "/dev"} {
		if _, below := relative(system, path); below {
			return fmt.Errorf("everything below %s is the state of the system, and no file; give a regular file", system)
		}
	}
	return nil
}
