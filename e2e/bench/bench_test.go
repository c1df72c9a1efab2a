package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// someFiles makes files of the sizes, and finds them.
func someFiles(t *testing.T, sizes ...int) []file {
	t.Helper()
	dir := t.TempDir()
	for i, size := range sizes {
		path := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := findFiles(dir, filepath.Join(dir, "missing"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(sizes) {
		t.Fatalf("found %d files of %d", len(files), len(sizes))
	}
	return files
}

func TestTakeFillsWithoutTakingTwice(t *testing.T) {
	// Enough small ones to fill what the large ones leave, in whatever order they are drawn.
	files := someFiles(t, append([]int{400, 700, 300, 300, 600}, slices.Repeat([]int{10}, 100)...)...)
	first, left, err := take(files, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if sum := total(first); sum < 990 || sum > 1000 {
		t.Errorf("took %d bytes for 1000", sum)
	}
	if len(first)+len(left) != len(files) || total(first)+total(left) != total(files) {
		t.Errorf("took %v and left %v of %v", first, left, files)
	}
	again, _, err := take(files, 1000)
	if err != nil || !slices.Equal(first, again) {
		t.Errorf("took %v the first time, %v the second (%v)", first, again, err)
	}
	if _, _, err := take(files, 5000); err == nil {
		t.Error("took 5000 bytes of 3300")
	}
}

func total(files []file) (sum int64) {
	for _, f := range files {
		sum += f.size
	}
	return sum
}

func TestTarIsTheSameEachTime(t *testing.T) {
	files := someFiles(t, 10, 2000)
	var tars []string
	for range 2 {
		content, err := io.ReadAll(tarOf(files))
		if err != nil {
			t.Fatal(err)
		}
		tars = append(tars, string(content))
	}
	if tars[0] != tars[1] || len(tars[0]) < 2010 {
		t.Errorf("tars of %d and %d bytes, or different ones", len(tars[0]), len(tars[1]))
	}
	files[0].size++
	if _, err := io.ReadAll(tarOf(files)); err == nil {
		t.Error("no error though a file is shorter than it was")
	}
}

func TestUseOfThisProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("needs Linux:", err)
	}
	dir := t.TempDir()
	before := diskUse(os.Getpid(), dir)
	f, err := os.Create(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	named := diskUse(os.Getpid(), dir) - before
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	unnamed := diskUse(os.Getpid(), dir) - before
	if named < 1<<20 || unnamed != named {
		t.Errorf("a file of 1 MiB takes %d bytes, and %d without its name", named, unnamed)
	}
	if memory := highWater(os.Getpid()); memory < 1<<20 {
		t.Errorf("this process takes %d bytes of memory", memory)
	}
}

func TestTable(t *testing.T) {
	var r results
	r.add(row{floor, saveName}, figures{wall: 10 * time.Second})
	for _, wall := range []time.Duration{40 * time.Second, 20 * time.Second, 30 * time.Second} {
		r.add(row{unchanged, skopeoName}, figures{wall: wall, sent: 570e6, requests: requests{0, 19, 4}})
	}
	r.add(row{filled, actionName}, figures{
		wall: 300 * time.Millisecond, requests: requests{4, 4, 1}, peak: peak{15e6, 2e6}, problem: "exit status 1",
	})
	var out strings.Builder
	r.table(&out, true)
	const want = `|  |  | time (from, to) | × skopeo copy | × docker save | sent | requests: store + registry + auth | peak memory | peak disk | failed |
|---|---|---|---|---|---|---|---|---|---|
| unchanged | skopeo | 30.0 s (20.0 s, 40.0 s) | 1 | 3 | 570 MB | 0 + 19 + 4 | 0 B | 0 B | 0 of 3 |
| unchanged, repository filled by skopeo copy | action | 300 ms (300 ms, 300 ms) | 0.01 | 0.03 | 0 B | 4 + 4 + 1 | 15 MB | 2.0 MB | 1 of 1 |
| export alone | save | 10.0 s (10.0 s, 10.0 s) | – | 1 | 0 B | 0 + 0 + 0 | 0 B | 0 B | 0 of 1 |
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error("table differs (-want +got):\n" + diff)
	}
	if err := r.err(); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("error %v", err)
	}
}
