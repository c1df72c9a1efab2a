package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/testkit"
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
	err := run(t.Context(), []string{"-size", "1", "-rounds", "2", "-rtt", "2ms", "-rate", "1GB/s", "-tools", "action",
		"-json", file}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, said := range []string{
		"**image in an OCI archive, as a rock is one; 1 MB; 2 ms, 1.0 GB/s**\n",
		"**image in another registry, by digest; 1 MB;",
		"**file of 1 % of that; 1 MB;", "| first push | this action |", "| unchanged | this action |",
		"| one small layer changed | this action |",
		"left out: images in ",
	} {
		if !strings.Contains(out.String(), said) {
			t.Errorf("the report lacks %q:\n%s", said, out.String())
		}
	}
	all, err := readResults(file)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, m := range all.Runs {
		got[m.Situation]++
		if sent := m.SentBytes > 0; sent == (m.Situation == unchanged) {
			t.Errorf("%s, %s sent %d bytes", m.Scenario, m.Situation, m.SentBytes)
		}
		if m.Condition != "2 ms, 1.0 GB/s" || m.Tool != "this action" || m.SizeMB != 1 || m.RoundTrips == 0 ||
			m.Requests["store"] == 0 || m.Store < 0.002 || m.Store > m.Seconds || m.MemoryBytes == 0 {
			t.Errorf("a run lacks something: %+v", m)
		}
	}
	if diff := cmp.Diff(map[string]int{firstPush: 6, unchanged: 6, changed: 6}, got); diff != "" {
		t.Error("runs by situation (-want +got):\n" + diff)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the bench left files behind: %v %v", left, err)
	}
}

func TestMissingToolsAreLeftOut(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("UPLOAD_RESOURCE_DOCKERD", "")
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	b := &bench{setting: setting{rows: rowKinds, tools: "action,regctl,save"}}
	b.chooseRecipes()
	if engines := b.findEngines(t.Context()); len(engines) > 0 {
		t.Errorf("engines: %+v", engines)
	}
	if len(b.recipes) != 1 || b.recipes[0].tool != "action" {
		t.Errorf("recipes: %+v", b.recipes)
	}
	want := []string{
		"docker save, regctl image import, which isn't installed", "regctl image import, which isn't installed",
		"regctl image copy, which isn't installed", "docker save, which isn't installed",
		"images in the containerd image store: UPLOAD_RESOURCE_DOCKERD names no dockerd of version 29 or newer",
	}
	if diff := cmp.Diff(want, b.left[:len(want)]); diff != "" {
		t.Error(diff)
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-size", "0"}, {"-size", "x"}, {"-tools", "action,nosuch"}, {"-rows", "disk"},
		{"-rate", "fast"}, {"-rounds", "0"}, {"-from", "x"},
		{"-registry", "fast"}, {"-docs", ".", "-rtt", "1ms"}, {"-layers", "50,x"}, {"-layers", "60,50"}} {
		if err := (&bench{}).parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	b := &bench{}
	if err := b.parse([]string{"-size", "10", "-rtt", "90ms", "-rate", "30MB/s"}); err != nil {
		t.Fatal(err)
	}
	if b.size != 10 || b.condition() != "90 ms, 30 MB/s" || b.charmhubRegistry() != nil || len(b.shares) != 4 {
		t.Errorf("size %v, %v, layers %v", b.size, b.condition(), b.shares)
	}
}

// TestSlowRegistry: its requests take long, and its bytes; the store's don't.
func TestSlowRegistry(t *testing.T) {
	b := &bench{}
	if err := b.parse([]string{"-registry", "slow", "-rtt", "90ms"}); err != nil {
		t.Fatal(err)
	}
	if got := b.condition(); got != "90 ms, slow registry" {
		t.Errorf("the condition is %q", got)
	}
	slow := b.charmhubRegistry()
	if got := slow.link.String(); got != "90 ms, 5.0 MB/s" {
		t.Errorf("the registry's link is %q", got)
	}
	for want, r := range map[time.Duration]server.Request{
		0:          {Server: "store", Method: http.MethodPost, Path: "/v1/charm/x/resources/y/revisions"},
		slowAnswer: {Server: "registry", Method: http.MethodPut, Path: "/v2/charm/x/blobs/uploads/1"},
		slowBegin:  {Server: "registry", Method: http.MethodPost, Path: "/v2/charm/x/blobs/uploads/"},
	} {
		var got time.Duration
		if fault := slow.delay(r); fault != nil {
			got = fault.Delay
		}
		if got != want {
			t.Errorf("%s is delayed by %s, want %s", r, got, want)
		}
	}
	b = &bench{}
	if err := b.parse([]string{"-registry", "slow", "-rate", "1MB/s"}); err != nil {
		t.Fatal(err)
	}
	if got := b.charmhubRegistry().link.String(); got != "loopback, 1.0 MB/s" {
		t.Errorf("behind a slower link, the registry's is %q", got)
	}
}

// TestLink sends a question and an answer: every byte arrives, none too early.
func TestLink(t *testing.T) {
	conn := dialThrough(t, newLink(20*time.Millisecond, 1e8), bytes.ToUpper)
	began := time.Now()
	question := bytes.Repeat([]byte("x"), 1e6)
	if _, err := conn.Write(question); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(answer, bytes.ToUpper(question)) {
		t.Errorf("got %d bytes, %v", len(answer), err)
	}
	// What is slow on a busy machine can't be asserted, but what is too fast can:
	// two round trips to open, one for the question, and what a burst leaves of
	// 10 ms for it to pass and of 10 ms for the answer.
	if took := time.Since(began); took < 70*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

// TestLinkRefusesTLS: whoever tries it learns at once that the server has none.
func TestLinkRefusesTLS(t *testing.T) {
	conn := dialThrough(t, newLink(time.Hour, 0), bytes.ToUpper)
	err := tls.Client(conn, &tls.Config{ServerName: "localhost"}).HandshakeContext(t.Context())
	if no := new(tls.RecordHeaderError); !errors.As(err, no) {
		t.Errorf("the handshake ended with %v", err)
	}
}

// dialThrough connects through a link to a server that reads all that a client
// sends and answers it.
func dialThrough(t *testing.T, l *link, answer func([]byte) []byte) *net.TCPConn {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		question, _ := io.ReadAll(conn)
		_, _ = conn.Write(answer(question))
		_ = conn.Close()
	}()
	proxy, err := l.before(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	conn, err := net.Dial("tcp", proxy.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func TestImagesDifferInTheirLastLayer(t *testing.T) {
	content, err := machineFiles(filepath.Join(t.TempDir(), "content"), 2e6)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }()
	shares := []int64{55, 30, 14, 1}
	var layers [][]v1.Layer
	for range 2 {
		var before []v1.Layer
		if len(layers) > 0 {
			before = layers[0]
		}
		image, err := makeImage(t.TempDir(), content, 1e6, shares, before)
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
		add(unchanged, "skopeo copy", measurement{Seconds: seconds, RoundTrips: seconds * 10, SentBytes: 570e6,
			Requests: map[string]int{"registry": 19, "auth": 4}})
	}
	add(unchanged, "this action", measurement{
		Seconds: 0.3, Store: 0.123, RoundTrips: 3, Requests: map[string]int{"store": 3, "storage": 1, "registry": 4,
			"auth": 1},
		MemoryBytes: 15e6, DiskBytes: 2e6,
	})
	const want = "|  |  | time (from, to) | of that, store | round trips (time ÷ rtt) | those beyond docker save | " +
		"× skopeo copy | sent | requests: store + registry + auth | peak memory | peak disk |" + `
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| unchanged | skopeo copy | 30 s (20, 40) | – | 300.0 | 200.0 | 1 | 570 MB | 0 + 19 + 4 | 0 B | 0 B |
| unchanged | this action | 0.3 s (0.3, 0.3) | 0.12 s | 3.0 | -97.0 | 0.01 | 0 B | 4 + 4 + 1 | 15 MB | 2.0 MB |
| export alone | docker save | 10 s (10, 10) | – | 100.0 | 0.0 | – | 0 B | 0 + 0 + 0 | 0 B | 0 B |
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
	for _, said := range []string{"| skopeo copy |", "| export alone | docker save |", "; loopback**"} {
		if !strings.Contains(out.String(), said) {
			t.Errorf("the report lacks %q:\n%s", said, out.String())
		}
	}
	name := fmt.Sprintf("upload-resource-bench-%d", os.Getpid())
	if left, err := exec.Command("docker", "image", "ls", "--quiet", name).Output(); err != nil ||
		strings.TrimSpace(string(left)) != "" {
		t.Errorf("images were left in the engine: %s %v", left, err)
	}
}

// TestFlagsInDocumentation: docs/benchmarks.md has the flags, each with its default and
// its usage.
func TestFlagsInDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	new(bench).flags().VisitAll(func(f *flag.Flag) {
		value := ""
		if f.DefValue != "" {
			value = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&want, "| `-%s` | %s | %s |\n", f.Name, value, f.Usage)
	})
	if _, table, _ := strings.Cut(string(page), "| flag | default | for |\n|---|---|---|\n"); !strings.HasPrefix(table,
		want.String()+"\n") {
		t.Errorf("docs/benchmarks.md has other flags than the bench:\n%s",
			cmp.Diff(want.String(), table[:min(len(table), want.Len())]))
	}
}

// TestCharts draws runs of two tools, with a failed one, in both themes.
func TestCharts(t *testing.T) {
	r := results{Versions: []string{"skopeo 1.9.3", "docker <28>"}}
	add := func(scenario, situation, tool string, seconds float64) {
		m := measurement{Scenario: scenario, SizeMB: 10, Situation: situation, Tool: tool, Condition: "90 ms",
			Seconds: seconds, RoundTrips: seconds / 0.09}
		if strings.HasPrefix(tool, ownTool) {
			m.Store = 0.4
		}
		if seconds == 0 {
			m.Failure = "no"
		}
		r.Runs = append(r.Runs, m)
	}
	const engine, file = "image by ID, graph driver overlay2 (engine 20.10.24)", "file"
	add(engine, exportAlone, "docker save", 10)
	measured := map[string][3]float64{unchanged: {0.7, 25, 31}, changed: {11.7, 26, 0}, firstPush: {19, 25, 44}}
	for _, situation := range []string{firstPush, unchanged, changed} {
		seconds := measured[situation]
		add(engine, situation, ownTool, seconds[0])
		add(engine, situation, "this action, compression: zstd", seconds[0]/2)
		add(engine, situation, "skopeo copy", seconds[1])
		add(engine, situation, "skopeo inspect --raw, inspect, copy --all --preserve-digests", seconds[2])
		add(file, situation, ownTool, 0.36)
	}
	folder := filepath.Join(t.TempDir(), "charts")
	if err := draw(folder, r); err != nil {
		t.Fatal(err)
	}
	names := []string{
		"changed-dark.svg", "changed-light.svg", "first-push-dark.svg", "first-push-light.svg",
		"summary-dark.svg", "summary-light.svg", "unchanged-dark.svg", "unchanged-light.svg",
	}
	for _, name := range names {
		got, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		testkit.Golden(t, name, string(got))
		if err := xml.Unmarshal(got, new(struct{})); err != nil {
			t.Errorf("%s is not XML: %v", name, err)
		}
	}
	if all := charts(results{}); len(all) > 0 {
		t.Errorf("charts of nothing: %v", all)
	}
}

// TestStoreTime: calls that overlap count once, the wait between questions about a review does, and the registry
// doesn't.
func TestStoreTime(t *testing.T) {
	start := time.Now()
	request := func(name string, from, to int, query string) server.Request {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
		return server.Request{Server: name, Query: values, Began: at(from), Ended: at(to)}
	}
	got := storeTime([]server.Request{
		request("store", 100, 110, ""), // 95 to 115
		request("store", 105, 115, ""), // to 120
		request("registry", 0, 900, ""),
		request("storage", 200, 210, ""),            // 195 to 215
		request("store", 300, 310, "upload-id=1"),   // 295 to 315
		request("store", 500, 500, "upload-id=1"),   // to 505
		request("auth", 600, 700, "scope=whatever"), // is the registry's
	}, 10*time.Millisecond)
	if want := (25 + 20 + 210) * time.Millisecond; got != want {
		t.Errorf("the store took %v, want %v", got, want)
	}
}

// TestPages writes pages of runs under two conditions, and leaves the rest of the pages.
func TestPages(t *testing.T) {
	r := results{Conditions: "Conditions: here."}
	for _, network := range []string{"90 ms", "loopback"} {
		for n, tool := range []string{"skopeo copy", ownTool, "docker save"} { // as a later round has them
			for _, situation := range []string{firstPush, unchanged, exportAlone} {
				m := measurement{Scenario: "rock", SizeMB: 10, Situation: situation, Tool: tool, Condition: network,
					Seconds: float64(n + 1), MemoryBytes: 15e6}
				if tool == ownTool {
					m.Store = 0.37
				}
				if (tool == "docker save") == (situation == exportAlone) {
					r.Runs = append(r.Runs, m)
				}
			}
		}
	}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "docs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"README.md", "docs/benchmarks.md"} {
		if err := os.WriteFile(filepath.Join(folder, page), []byte("before\n<!-- bench:start -->\nold\n<!-- "+
			"bench:end -->\nafter\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(folder, "runs.json")
	text, err := json.Marshal(r)
	if err := errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"-docs", folder, "-from", file}, io.Discard); err != nil {
		t.Fatal(err)
	}
	table := `
| image in | tool | first push | unchanged | one small layer changed | store | peak memory | peak disk |
|---|---|---|---|---|---|---|---|
| rock | this action | 2 s, 0 B | 2 s, 0 B | – | 0.37, 0.37 s | 15 MB | 0 B |
|  | skopeo copy | 1 s, 0 B | 1 s, 0 B | – | – | 15 MB | 0 B |

`
	want := "before\n<!-- bench:start -->\n### Image of 10 MB; 90 ms; rounds: 1\n" + table +
		"### Image of 10 MB; loopback; rounds: 1\n" + table +
		"Conditions: here.\n<!-- bench:end -->\nafter\n"
	got, err := os.ReadFile(filepath.Join(folder, "docs", "benchmarks.md"))
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Errorf("docs/benchmarks.md differs (-want +got), %v:\n%s", err, diff)
	}
	got, err = os.ReadFile(filepath.Join(folder, "README.md"))
	if said := "The action took\n2 s (unchanged), 2 s (first push).\n"; err != nil ||
		!strings.Contains(string(got), said) || strings.Contains(string(got), "old") {
		t.Errorf("README.md doesn't say %q: %v\n%s", said, err, got)
	}
	for _, chart := range []string{"summary-dark.svg", "unchanged-light.svg"} {
		if _, err := os.Stat(filepath.Join(folder, "docs", "charts", chart)); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "README.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writePages(folder, r); err == nil {
		t.Error("a page without its place was written")
	}
}

func TestPageSettings(t *testing.T) {
	b := &bench{}
	if err := b.parse([]string{"-docs", ".", "-size", "200", "-rows", "graph,rock"}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range b.pageSettings() {
		got = append(got, fmt.Sprintf("%d × %d MB in %d layers; %s; %s", s.rounds, s.size, len(s.shares), s.condition(),
			s.rows))
	}
	want := []string{
		"3 × 200 MB in 4 layers; 90 ms, 100 MB/s; graph,rock", "3 × 200 MB in 4 layers; 90 ms, 30 MB/s; graph",
		"1 × 100 MB in 12 layers; 90 ms, slow registry; rock", "3 × 200 MB in 4 layers; loopback; graph",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
