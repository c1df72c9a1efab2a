package hostile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// inputsOfPaths are the ways to name a path, and a run of each.
var inputsOfPaths = map[string]func(path string) []string{
	"filepath": func(path string) []string {
		return []string{"resource=" + harness.FileResource,
			"filepath=" + path}
	},
	"metadata":       func(path string) []string { return []string{"metadata=" + path} },
	"image":          imageInput("./"),
	"docker-archive": imageInput("docker-archive:"),
	"oci-archive":    imageInput("oci-archive:"),
	"oci":            imageInput("oci:"),
	"second line": func(path string) []string {
		return []string{"resource=" + harness.ImageResource, "image=oci:layout\noci:" + path}
	},
}

// imageInput returns a function that gives the inputs to upload the image at a path. before goes in front of the
// path, such as "oci:".
func imageInput(before string) func(string) []string {
	return func(path string) []string {
		return []string{"resource=" + harness.ImageResource, "image=" + before + path}
	}
}

// hostileCheckout makes a workspace as a pull request could leave it, beside a folder
// of the runner.
func hostileCheckout(t *testing.T) (workspace, outside string) {
	t.Helper()
	top := t.TempDir()
	workspace, outside = filepath.Join(top, "workspace"), filepath.Join(top, "outside")
	layout := harness.WriteLayout(t, harness.PlatformImage(t, "linux/amd64"))
	err := errors.Join(
		os.MkdirAll(filepath.Join(workspace, "sub"), 0o700), os.Mkdir(outside, 0o700),
		os.CopyFS(filepath.Join(workspace, "layout"), os.DirFS(layout)),
		os.CopyFS(filepath.Join(outside, "layout"), os.DirFS(layout)),
		syscall.Mkfifo(filepath.Join(workspace, "pipe"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(outside, "secret"), "not to be published")
	harness.WriteFile(t, filepath.Join(workspace, "rules.txt"), "to be published")
	for link, target := range map[string]string{
		"environ": "/proc/self/environ", "environ-2": "environ", "sub/environ": "../environ-2", "self": "/proc/self",
		"zero": "/dev/zero", "outside": "../outside", "whole": outside, "secret": "../outside/secret",
		"inside": "sub/../rules.txt", "inside-2": filepath.Join(workspace, "inside"), "layout-2": "./layout",
	} {
		if err := os.Symlink(target, filepath.Join(workspace, link)); err != nil {
			t.Fatal(err)
		}
	}
	return workspace, outside
}

// TestWorkspaceRefuses: whatever a path leads to outside of the workspace is
// not read: the secrets in this process' variables first of all.
func TestWorkspaceRefuses(t *testing.T) {
	t.Parallel()
	workspace, outside := hostileCheckout(t)
	const missing = "; put the file below github.workspace, since a container action sees the workspace, but neither " +
		"runner.temp nor other folders of the runner"
	for path, want := range map[string]string{
		"environ":                        "environ is a symbolic link that leads out of the workspace, to /proc/self/environ",
		"environ-2":                      "environ is a symbolic link that leads out of the workspace",
		"sub/environ":                    "environ is a symbolic link that leads out of the workspace",
		"self/environ":                   "self is a symbolic link that leads out of the workspace, to /proc/self",
		"self":                           "self is a symbolic link that leads out of the workspace",
		"zero":                           "zero is a symbolic link that leads out of the workspace, to /dev/zero",
		"secret":                         "secret is a symbolic link that leads out of the workspace, to ../outside/secret",
		"outside/secret":                 "outside is a symbolic link that leads out of the workspace",
		"whole/secret":                   "whole is a symbolic link that leads out of the workspace, to " + outside,
		"outside/layout":                 "outside is a symbolic link that leads out of the workspace",
		"pipe":                           "not a regular file, but a pipe|not a directory",
		"../outside/secret":              missing,
		"sub/../../outside":              missing,
		"/proc/self/environ":             missing,
		"/dev/zero":                      missing,
		outside + "/secret":              missing,
		workspace + "/secret":            "secret is a symbolic link that leads out of the workspace",
		workspace + "/../outside/secret": missing,
		workspace + "/no":                "the workspace has no such file; check the path",
	} {
		for name, input := range inputsOfPaths {
			if name == "image" && filepath.IsAbs(path) {
				input = imageInput("")
			}
			t.Run(name+" "+path, func(t *testing.T) {
				t.Parallel()
				sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // some have no end
				defer cancel()
				r := harness.UploadContext(ctx, t, sandbox, append(input(path), "GITHUB_WORKSPACE="+workspace)...)
				r.Failed(t, sandbox)
				if !containsAny(harness.ErrorText(r), want) {
					t.Errorf("the error doesn't say %q:\n%s", want, harness.ErrorText(r))
				}
				harness.SentNoManifest(t, sandbox)
			})
		}
	}
}

// containsAny reports whether the text contains at least one of the fragments, which are separated by "|".
func containsAny(text, fragments string) bool {
	for fragment := range strings.SplitSeq(fragments, "|") {
		if strings.Contains(text, fragment) {
			return true
		}
	}
	return false
}

// TestWorkspaceWithoutVariable: the current folder is the workspace, in Actions
// and elsewhere. Elsewhere an absolute path is taken as it is, but never the state
// of the system.
func TestWorkspaceWithoutVariable(t *testing.T) {
	t.Parallel()
	workspace, outside := hostileCheckout(t)
	environ := filepath.Join(outside, "environ")
	if err := os.Symlink("/proc/self/environ", environ); err != nil {
		t.Fatal(err)
	}
	const unpublished = ""
	for name, test := range map[string]struct{ path, actions, published, want string }{
		"link out, in Actions": {"environ", "true", unpublished,
			"environ is a symbolic link that leads out of the workspace"},
		"link out, elsewhere":    {"environ", "", unpublished, "environ is a symbolic link that leads out of the workspace"},
		"up, in Actions":         {"../outside/secret", "true", unpublished, "below github.workspace"},
		"up, elsewhere":          {"../outside/secret", "", unpublished, "is not below the current folder"},
		"link inside":            {"inside", "true", "to be published", ""},
		"whole, in Actions":      {outside + "/secret", "true", unpublished, "below github.workspace"},
		"whole, elsewhere":       {outside + "/secret", "", "not to be published", ""},
		"environment, elsewhere": {"/proc/self/environ", "", unpublished, "below /proc"},
		"link to it, elsewhere":  {environ, "", unpublished, "below /proc"},
		"device, elsewhere":      {"/dev/zero", "", unpublished, "below /dev"},
		"pipe, elsewhere":        {workspace + "/pipe", "", unpublished, "not a regular file, but a pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r := harness.UploadIn(ctx, t, workspace, sandbox, "resource="+harness.FileResource, "filepath="+test.path,
				"GITHUB_WORKSPACE=", "GITHUB_ACTIONS="+test.actions)
			made := sandbox.Revisions(harness.Charm, harness.FileResource)
			if test.want != "" {
				if r.Exit != 1 || !strings.Contains(r.Log, test.want) || len(made) > 0 {
					t.Errorf("exit %d, want 1 with %q and no revision:\n%s", r.Exit, test.want, r.Log)
				}
				return
			}
			r.Succeeded(t)
			if len(made) != 1 || made[0].SHA256 != harness.SHA256Of(test.published) {
				t.Errorf("published %+v, want %q", made, test.published)
			}
		})
	}
}

// TestWorkspaceLinksInside: links that stay inside are as good as what they
// lead to, and so is the absolute path that the runner makes of github.workspace.
func TestWorkspaceLinksInside(t *testing.T) {
	t.Parallel()
	workspace, _ := hostileCheckout(t)
	for _, path := range []string{"rules.txt", "inside", "inside-2", "sub/../inside", workspace + "/rules.txt",
		workspace + "/inside-2"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path, "GITHUB_WORKSPACE="+workspace)
			r.Succeeded(t)
			r.HasOutputs(t, map[string]string{"source-digest": "sha256:" + harness.SHA256Of("to be published")})
		})
	}
	for _, path := range []string{"./layout", "./layout-2", "oci:layout-2", workspace + "/layout-2"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+path, "GITHUB_WORKSPACE="+workspace)
			r.Succeeded(t)
			r.HasOutputs(t, map[string]string{"uploaded": "true"})
		})
	}
}

// TestWorkspaceLayoutLinks: a layout's files are in the layout, even where a
// link leads to another folder of the workspace.
func TestWorkspaceLayoutLinks(t *testing.T) {
	t.Parallel()
	img := harness.PlatformImage(t, "linux/amd64")
	layer := harness.FirstLayer(t, img).Digest
	for name, target := range map[string]string{
		"environment": "/proc/self/environ", "device": "/dev/zero", "in the workspace": "../../../rules.txt",
		"in the workspace, whole": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workspace, _ := hostileCheckout(t)
			if target == "" {
				target = filepath.Join(workspace, "rules.txt")
			}
			layout := filepath.Join(workspace, "spoilt")
			if err := os.CopyFS(layout, os.DirFS(harness.WriteLayout(t, img))); err != nil {
				t.Fatal(err)
			}
			blob := harness.BlobFile(layout, layer)
			if err := errors.Join(os.Remove(blob), os.Symlink(target, blob)); err != nil {
				t.Fatal(err)
			}
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image=./spoilt", "GITHUB_WORKSPACE="+workspace)
			r.Failed(t, sandbox, layer.Hex+" is a symbolic link that leads out of ./spoilt, to "+target)
			harness.SentNoManifest(t, sandbox)
		})
	}
}
