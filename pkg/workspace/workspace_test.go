package workspace

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// place is a workspace with files and links of every kind, and a folder outside it.
type place struct{ dir, outside string }

// newPlace makes a workspace with files and links, and a folder outside to which some of the links lead.
func newPlace(t *testing.T) place {
	t.Helper()
	top := t.TempDir()
	p := place{filepath.Join(top, "workspace"), filepath.Join(top, "outside")}
	file := filepath.Join(p.dir, "sub", "file")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(p.dir, "sub", "deep"), 0o700), os.Mkdir(p.outside, 0o700),
		os.Mkdir(filepath.Join(p.dir, ".git"), 0o700),
		os.WriteFile(filepath.Join(p.dir, ".git", "config"), []byte("token"), 0o600),
		os.WriteFile(file, []byte("content"), 0o600), os.WriteFile(filepath.Join(p.outside, "file"), []byte("secret"), 0o600),
		syscall.Mkfifo(filepath.Join(p.dir, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"inside": "sub/file", "whole": file, "chain": "whole", "folder": "sub", "whole-folder": filepath.Dir(file),
		"sub/deep/up": "../../sub/file", "dangling": "nothing",
		"out": p.outside + "/file", "out-chain": "out", "out-folder": "../outside", "sub/deep/out": "../../../outside/file",
		"environ": "/proc/self/environ", "zero": "/dev/zero", "circle": "circle", "to-pipe": "pipe", "git": ".git/config",
		"git-folder": ".git",
		"back":       "../workspace/sub/file",
	} {
		if err := os.Symlink(target, filepath.Join(p.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", filepath.Join(p.dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	t.Chdir(p.dir)
	return p
}

// getenv returns a function that looks up variables in the map.
func getenv(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// spaces returns the same workspace in each of the ways in which it is known.
func (p place) spaces() map[string]Workspace {
	return map[string]Workspace{
		"in Actions":                 New(getenv(map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": p.dir})),
		"in Actions, variable unset": New(getenv(map[string]string{"GITHUB_ACTIONS": "true"})),
		"outside Actions":            New(getenv(map[string]string{"GITHUB_WORKSPACE": "/nonexistent"})),
	}
}

func TestOpen(t *testing.T) {
	p := newPlace(t)
	for name, w := range p.spaces() {
		for _, path := range []string{
			"sub/file", "./sub/file", "sub/../sub/file", "inside", "whole", "chain", "folder/file", "whole-folder/file",
			"sub/deep/up", "folder/deep/up", filepath.Join(p.dir, "sub", "file"), filepath.Join(p.dir, "chain"),
		} {
			file, err := w.Open(path)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if content, err := io.ReadAll(file); err != nil || string(content) != "content" {
				t.Errorf("%s: %s holds %q, %v", name, path, content, err)
			}
			_ = file.Close()
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	p := newPlace(t)
	for name, w := range p.spaces() {
		for path, want := range map[string]string{
			"out":       "out is a symbolic link that leads out of the workspace, to " + p.outside + "/file",
			"out-chain": "out-chain: out is a symbolic link that leads out",
			"out-folder/file": "out-folder/file: out-folder is a symbolic link that leads out of the workspace, to " +
				"../outside",
			"sub/deep/out":       "sub/deep/out is a symbolic link that leads out",
			"folder/deep/out":    "folder/deep/out: sub/deep/out is a symbolic link that leads out",
			"back":               "back is a symbolic link that leads out",
			"environ":            "environ is a symbolic link that leads out of the workspace, to /proc/self/environ",
			"zero":               "to /dev/zero",
			"circle":             "too many levels of symbolic links",
			"pipe":               "not a regular file, but a pipe",
			"to-pipe":            "not a regular file, but a pipe",
			"socket":             "not a regular file",
			"sub":                "not a regular file, but a folder",
			".":                  "not a regular file, but a folder",
			"missing":            "cannot find missing: ",
			"dangling":           "cannot find dangling: ",
			"/proc/self/environ": "/proc",
			"/dev/zero":          "/dev",
			"git":                "the file is in a .git folder, where a checkout stores its credentials",
			".git/config":        "the file is in a .git folder, where a checkout stores its credentials",
			"git-folder/config":  "the file is in a .git folder, where a checkout stores its credentials",
		} {
			file, err := w.Open(path)
			if err == nil {
				_ = file.Close()
				t.Errorf("%s: %s was opened", name, path)
				continue
			}
			if !w.actions || !filepath.IsAbs(path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %s: the error %q doesn't say %q", name, path, err, want)
				}
			}
			if got := errors.Is(err, ErrFolder); got != strings.HasSuffix(want, "folder") {
				t.Errorf("%s: %s is taken for a folder: %t", name, path, got)
			}
		}
	}
}

// What is elsewhere is there for a person, and not for an action.
func TestOpenElsewhere(t *testing.T) {
	p := newPlace(t)
	elsewhere := filepath.Join(p.outside, "file")
	environ := filepath.Join(p.outside, "environ")
	if err := os.Symlink("/proc/self/environ", environ); err != nil {
		t.Fatal(err)
	}
	person := p.spaces()["outside Actions"]
	file, err := person.Open(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	for path, want := range map[string]string{
		"../outside/file": "is not below the current folder",
		environ:           "below /proc",
		"/proc/self/fd/0": "below /proc",
		"/sys/kernel":     "below /sys",
		p.outside + "/no": "cannot find " + p.outside + "/no: ",
		p.dir + "/pipe":   "not a regular file, but a pipe",
		p.dir + "/socket": "not a regular file",
	} {
		if _, err := person.Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error %v doesn't say %q", path, err, want)
		}
	}
	action := p.spaces()["in Actions"]
	for _, path := range []string{elsewhere, environ, "../outside/file", "../workspace/../outside/file", "/etc/passwd"} {
		_, err := action.Open(path)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "cannot find "+path+": ") ||
			!strings.HasSuffix(err.Error(), "; put the file below github.workspace, since a container action sees the "+
				"workspace, "+
				"but neither runner.temp nor other folders of the runner") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What isn't there may be a pattern, or have another name.
func TestMissing(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cup.rock", "tea.rock", "notes.txt", "out/a.charm", "out/b.charm", "many/1.rock",
		"many/2.rock", "many/3.rock", "many/4.rock", "many/5.rock", "many/6.rock", "many/7.rock", "odd/\x1b[31m\n.rock",
		"plain/file"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	const check = "the workspace has no such file; check the path, and that an earlier step of this job wrote the file"
	w := New(func(name string) string {
		return map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": dir}[name]
	})
	for path, want := range map[string]string{
		"*.rock":          "the workspace has no such file; patterns aren't expanded; there are: cup.rock, tea.rock",
		"./*.rock":        "the workspace has no such file; patterns aren't expanded; there are: cup.rock, tea.rock",
		dir + "/c??.rock": "the workspace has no such file; patterns aren't expanded; there are: " + dir + "/cup.rock",
		"out/[ab].charm":  "the workspace has no such file; patterns aren't expanded; there are: out/a.charm, out/b.charm",
		"*/a.charm":       "the workspace has no such file; patterns aren't expanded; give the path of one file",
		"*.snap":          "the workspace has no such file; patterns aren't expanded; give the path of one file",
		"[":               "the workspace has no such file; patterns aren't expanded; give the path of one file",
		"mug.rock":        check + "; there are: cup.rock, tea.rock",
		"many/*": "the workspace has no such file; patterns aren't expanded; there are: many/1.rock, " +
			"many/2.rock, many/3.rock, many/4.rock, many/5.rock and 2 more",
		"odd/x.rock":        check + "; there are: \"odd/\\x1b[31m\\n.rock\"",
		"mug.snap":          check,
		"plain/other":       check,
		"nowhere/mug.rock":  check,
		"cup.rock/mug.rock": check,
	} {
		_, fileErr := w.Open(path)
		_, folderErr := w.OpenFolder(path)
		for _, err := range []error{fileErr, folderErr} {
			if path == "cup.rock/mug.rock" { // it isn't there in another sense
				continue
			}
			if !errors.Is(err, fs.ErrNotExist) || err.Error() != "cannot find "+path+": "+want {
				t.Errorf("%s: got  %v\nwant cannot find %[1]s: %s", path, err, want)
			}
		}
	}
	outside := Workspace{}
	if _, err := outside.Open(dir + "/mug.rock"); err == nil || err.Error() != "cannot find "+dir+
		"/mug.rock: no such file; check the path; there are: "+dir+"/cup.rock, "+dir+"/tea.rock" {
		t.Errorf("outside Actions: %v", err)
	}
}

// The system's state is none even where the workspace is above it.
func TestOpenBelowRoot(t *testing.T) {
	p := newPlace(t)
	t.Chdir("/")
	for name, w := range p.spaces() {
		for _, path := range []string{"proc/self/environ", "/proc/self/environ", "dev/zero"} {
			if file, err := w.Open(path); err == nil {
				_ = file.Close()
				t.Errorf("%s: %s was opened", name, path)
			}
		}
		if folder, err := w.OpenFolder("proc/self"); err == nil {
			_ = folder.Close()
			t.Errorf("%s: a folder of /proc was opened", name)
		}
	}
}

// A workspace can be known by a name that is a link itself.
func TestOpenInLinkedWorkspace(t *testing.T) {
	p := newPlace(t)
	link := filepath.Join(p.outside, "link")
	if err := os.Symlink(p.dir, link); err != nil {
		t.Fatal(err)
	}
	w := New(getenv(map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": link}))
	for _, path := range []string{"chain", link + "/chain", p.dir + "/chain"} {
		file, err := w.Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		_ = file.Close()
	}
}

func TestOpenFolder(t *testing.T) {
	p := newPlace(t)
	for name, w := range p.spaces() {
		for _, path := range []string{"sub", "sub/", "folder", "whole-folder", "sub/deep/..", p.dir + "/sub",
			p.dir + "/folder"} {
			folder, err := w.OpenFolder(path)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			file, err := folder.Open("file")
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else {
				_ = file.Close()
			}
			if _, err := folder.Open("missing"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: a file that isn't there: %v", name, err)
			}
			// One leads into the workspace, but not into the folder.
			for _, link := range []string{"deep/up", "deep/out"} {
				_, err = folder.Open(link)
				if err == nil || !strings.Contains(err.Error(), link+" is a symbolic link that leads out of "+path) {
					t.Errorf("%s: a link that leads out of %s: %v", name, path, err)
				}
			}
			_ = folder.Close()
		}
		for path, folderless := range map[string]bool{
			"inside": true, "pipe": true, "socket": true, p.dir + "/pipe": true, "to-pipe": true,
			"out-folder": false, "circle": false, "missing": false,
		} {
			folder, err := w.OpenFolder(path)
			if err == nil {
				_ = folder.Close()
				t.Errorf("%s: %s was opened", name, path)
			} else if errors.Is(err, syscall.ENOTDIR) != folderless {
				t.Errorf("%s: %s: %v", name, path, err)
			}
		}
	}
}

func TestExists(t *testing.T) {
	p := newPlace(t)
	w := p.spaces()["in Actions"]
	for path, want := range map[string]bool{
		"sub/file": true, "sub": true, "chain": true, "pipe": true, "out": true,
		"missing": false, "dangling": false, "/etc/passwd": false, "../outside/file": false,
		// No file can have these names.
		"sub/file/name": false, strings.Repeat("long ", 60): false, strings.Repeat("long/", 1000): false,
	} {
		if got := w.Exists(path); got != want {
			t.Errorf("%.20q: %t, want %t", path, got, want)
		}
	}
}
