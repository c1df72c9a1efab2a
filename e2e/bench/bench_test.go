package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestBench runs it all, small and without other tools, on a machine without an
// engine and over a link.
func TestBench(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("needs Linux:", err)
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	t.Setenv("UPLOAD_RESOURCE_DOCKERD", "")
	t.Chdir("../..")
	file := filepath.Join(t.TempDir(), "runs.json")
	var out bytes.Buffer
	err := run(t.Context(), []string{"-size", "1", "-rounds", "2", "-rtt", "2ms", "-rate", "1GB/s", "-tools", "action", "-json", file}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, said := range []string{
		"**image in an OCI archive, as a rock is one; 1 MB; loopback with round trips of 2ms, 1.0 GB/s each way**\n", "**image in another registry, by digest; 1 MB;",
		"**file of 1 % of that; 1 MB;", "| first push | this action |", "| unchanged | this action |", "| one small layer changed | this action |",
		"left out: images in ",
	} {
		if !strings.Contains(out.String(), said) {
			t.Errorf("the report lacks %q:\n%s", said, out.String())
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Conditions string
		Runs       []measurement
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, m := range all.Runs {
		got[m.Situation]++
		if sent := m.SentBytes > 0; sent == (m.Situation == unchanged) {
			t.Errorf("%s, %s sent %d bytes", m.Scenario, m.Situation, m.SentBytes)
		}
		if m.Condition != "loopback with round trips of 2ms, 1.0 GB/s each way" || m.Tool != "this action" || m.SizeMB != 1 || m.RoundTrips == 0 ||
			m.Requests["store"] == 0 || m.MemoryBytes == 0 {
			t.Errorf("a run lacks something: %+v", m)
		}
	}
	if diff := cmp.Diff(map[string]int{firstPush: 6, unchanged: 6, changed: 4}, got); diff != "" {
		t.Error("runs by situation (-want +got):\n" + diff)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the bench left files behind: %v %v", left, err)
	}
}

func TestMissingToolsAreLeftOut(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("UPLOAD_RESOURCE_DOCKERD", "")
	b := &bench{tools: []string{"action", "crane", "save", "skopeo-inspect-copy"}}
	b.chooseTools()
	b.findEngines(t.Context())
	if diff := cmp.Diff([]string{"action"}, b.tools); diff != "" {
		t.Error(diff)
	}
	want := []string{"crane, which isn't installed", "save, which isn't installed", "skopeo-inspect-copy, which isn't installed",
		"images in the containerd image store: UPLOAD_RESOURCE_DOCKERD names no dockerd of version 29 or newer",
		"images in a Docker engine: docker isn't installed, or none answers"}
	if diff := cmp.Diff(want, b.left); diff != "" {
		t.Error(diff)
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-size", "0"}, {"-size", "10,x"}, {"-tools", "action,nosuch"}, {"-rate", "fast"}, {"-rounds", "0"}} {
		if err := (&bench{link: &link{}}).parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	b := &bench{link: &link{}}
	if err := b.parse([]string{"-size", "10,20", "-rtt", "90ms", "-rate", "30MB/s"}); err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(b.sizes, []int{10, 20}) || b.link.String() != "loopback with round trips of 90ms, 30 MB/s each way" {
		t.Errorf("sizes %v, %v", b.sizes, b.link)
	}
}

// TestLink sends a question and an answer: every byte arrives, none too early.
func TestLink(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		question, _ := io.ReadAll(conn)
		_, _ = conn.Write(bytes.ToUpper(question))
		_ = conn.Close()
	}()
	l := &link{rtt: 20 * time.Millisecond, rate: 1e8}
	proxy, err := l.before(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = proxy.Close() }()
	conn, err := net.Dial("tcp", proxy.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	question := bytes.Repeat([]byte("x"), 1e6)
	if _, err := conn.Write(question); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(answer, bytes.ToUpper(question)) {
		t.Errorf("got %d bytes, %v", len(answer), err)
	}
	// What is slow on a busy machine can't be asserted, but what is too fast can:
	// two round trips to open, one for the question, 10 ms for it to pass and 10 ms
	// for the answer.
	if took := time.Since(began); took < 80*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestImagesDifferInTheirLastLayer(t *testing.T) {
	var layers [][]v1.Layer
	for range 2 {
		var before []v1.Layer
		if len(layers) > 0 {
			before = layers[0]
		}
		image, err := makeImage(t.TempDir(), 1e6, before)
		if err != nil {
			t.Fatal(err)
		}
		of, err := image.Layers()
		if err != nil || len(of) != len(shares) {
			t.Fatalf("%d layers, %v", len(of), err)
		}
		layers = append(layers, of)
	}
	for i := range shares {
		one, err := layers[0][i].DiffID()
		if err != nil {
			t.Fatal(err)
		}
		other, err := layers[1][i].DiffID()
		if err != nil {
			t.Fatal(err)
		}
		if same := one == other; same == (i == len(shares)-1) {
			t.Errorf("layer %d of the images is %v and %v", i, one, other)
		}
	}
}

func TestUseOfAProcess(t *testing.T) {
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
	var runs []measurement
	add := func(situation, tool string, m measurement) {
		m.Situation, m.Tool = situation, tool
		runs = append(runs, m)
	}
	add(exportAlone, "docker save", measurement{Seconds: 10, RoundTrips: 100})
	for _, seconds := range []float64{40, 20, 30} {
		add(unchanged, "skopeo copy", measurement{Seconds: seconds, RoundTrips: seconds * 10, SentBytes: 570e6, Requests: map[string]int{"registry": 19, "auth": 4}})
	}
	add(unchanged, "this action", measurement{
		Seconds: 0.3, RoundTrips: 3, Requests: map[string]int{"store": 3, "storage": 1, "registry": 4, "auth": 1},
		MemoryBytes: 15e6, DiskBytes: 2e6,
	})
	const want = `|  |  | time (from, to) | round trips (time ÷ rtt) | those beyond docker save | × skopeo copy | × docker save | sent | requests: store + registry + auth | peak memory | peak disk |
|---|---|---|---|---|---|---|---|---|---|---|
| unchanged | skopeo copy | 30 s (20, 40) | 300.0 | 200.0 | 1 | 3 | 570 MB | 0 + 19 + 4 | 0 B | 0 B |
| unchanged | this action | 0.3 s (0.3, 0.3) | 3.0 | -97.0 | 0.01 | 0.03 | 0 B | 4 + 4 + 1 | 15 MB | 2.0 MB |
| export alone | docker save | 10 s (10, 10) | 100.0 | – | – | 1 | 0 B | 0 + 0 + 0 | 0 B | 0 B |
`
	if diff := cmp.Diff(want, table(runs)); diff != "" {
		t.Error("table differs (-want +got):\n" + diff)
	}
}

// TestEngineAndPeers runs a tiny bench with whatever this machine has.
func TestEngineAndPeers(t *testing.T) {
	for _, tool := range []string{"docker", "skopeo"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	if out, err := exec.Command("docker", "info", "--format", "{{.ServerVersion}}").CombinedOutput(); err != nil {
		t.Skipf("docker is not here: %v: %s", err, out)
	}
	t.Setenv("UPLOAD_RESOURCE_DOCKERD", "")
	t.Chdir("../..")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-size", "1", "-rounds", "1"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, said := range []string{"| skopeo copy |", "| export alone | docker save |", "| " + filled + " | this action |", "; loopback**"} {
		if !strings.Contains(out.String(), said) {
			t.Errorf("the report lacks %q:\n%s", said, out.String())
		}
	}
	if left, err := exec.Command("docker", "image", "ls", "--quiet", "upload-resource-bench-*").Output(); err != nil || strings.TrimSpace(string(left)) != "" {
		t.Errorf("images were left in the engine: %s %v", left, err)
	}
}
