package releaseimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"debug/macho"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeProgram writes a module with a small program into a folder and returns the folder.
func writeProgram(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module example.com/small\n\ngo 1.26.0\n\ntoolchain " + runtime.Version() + "\n",
		"main.go": "package main\n\nvar version = \"devel\"\n\nfunc main() { println(\"version\", version) }\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// build compiles a folder's program.
func build(t *testing.T, folder, version string) []Program {
	t.Helper()
	programs, err := Compile(t.Context(), folder, version)
	if err != nil {
		t.Fatal(err)
	}
	return programs
}

// machineOf returns the machine that a program is for, as its format names it.
func machineOf(t *testing.T, program []byte) string {
	t.Helper()
	if file, err := elf.NewFile(bytes.NewReader(program)); err == nil {
		return file.Machine.String()
	}
	file, err := macho.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatalf("a program is neither ELF nor Mach-O: %v", err)
	}
	return file.Cpu.String()
}

// TestWrite: each file is an executable for its platform, and the checksums are
// those of the files.
func TestWrite(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "programs")
	if err := Write(folder, build(t, writeProgram(t), "v1.2.3")); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(folder, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		path := filepath.Join(folder, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%x", sha256.Sum256(content)); sum != want {
			t.Errorf("%s: the checksum is %s, want %s", name, sum, want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode()&0o111 != 0o111 {
			t.Errorf("%s can't be executed by everybody: %v", name, err)
		}
		if !bytes.Contains(content, []byte("v1.2.3")) {
			t.Errorf("%s doesn't know its version", name)
		}
		got[name] = machineOf(t, content)
	}
	want := map[string]string{
		"upload-resource-linux-amd64": "EM_X86_64", "upload-resource-linux-arm64": "EM_AARCH64",
		"upload-resource-linux-ppc64le": "EM_PPC64",
		"upload-resource-linux-riscv64": "EM_RISCV", "upload-resource-linux-s390x": "EM_S390",
		"upload-resource-darwin-amd64": "CpuAmd64", "upload-resource-darwin-arm64": "CpuArm64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("programs (-want +got):\n%s", diff)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != len(want)+1 {
		t.Errorf("%d files, want %d and the checksums: %v", len(entries), len(want), err)
	}
}

// TestReproducible: the digests of the programs and of the image depend on the
// source and the version, and not on the folder or the environment.
func TestReproducible(t *testing.T) {
	first := digests(t, writeProgram(t), "v1.2.3")
	for name, value := range map[string]string{
		"GOFLAGS": "-tags=other -ldflags=-X=main.version=v9", "GOAMD64": "v3", "GOARM64": "v9.0", "CGO_ENABLED": "1",
		"GOARCH": "arm", "GOOS": "windows", "TZ": "Asia/Tokyo",
	} {
		t.Setenv(name, value)
	}
	if diff := cmp.Diff(first, digests(t, writeProgram(t), "v1.2.3")); diff != "" {
		t.Errorf("the second build differs (-first +second):\n%s", diff)
	}
	for name, other := range digests(t, writeProgram(t), "v1.2.4") {
		if other == first[name] {
			t.Errorf("%s of another version has the same digest", name)
		}
	}
}

// digests builds a release and returns the digest of each program and of the image.
func digests(t *testing.T, folder, version string) map[string]string {
	t.Helper()
	programs := build(t, folder, version)
	digest, err := indexOf(t, programs, version).Digest()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{"image": digest.Hex}
	for _, p := range programs {
		found[p.OS+"/"+p.Architecture] = fmt.Sprintf("%x", sha256.Sum256(p.Content))
	}
	return found
}

func TestCompileExplainsFailures(t *testing.T) {
	broken := writeProgram(t)
	if err := os.WriteFile(filepath.Join(broken, "main.go"), []byte("package main\n\nfunc main() { undefined() }\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Compile(t.Context(), broken, "v1.2.3"); err == nil ||
		!strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("got error %v, want the compiler's", err)
	}
	loose := writeProgram(t)
	if err := os.WriteFile(filepath.Join(loose, "go.mod"), []byte("module example.com/small\n\ngo 1.26.0\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Compile(t.Context(), loose, "v1.2.3"); err == nil || !strings.Contains(err.Error(), "toolchain") {
		t.Errorf("got error %v, want one about the toolchain", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Compile(ctx, writeProgram(t), "v1.2.3"); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that it was cancelled", err)
	}
}
