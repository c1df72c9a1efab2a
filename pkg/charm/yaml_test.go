package charm

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// filled repeats a text until it has as many bytes as a charm's YAML may have, less a few for what is around it.
func filled(text string) string { return strings.Repeat(text, (maxText-200)/len(text)) }

// each writes n lines that differ by their number.
func each(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// hostileYAML are texts of up to 1 MiB that are small to read and large to understand. Where err is empty they are
// taken.
var hostileYAML = map[string]struct{ text, err string }{
	"aliases of a long text in a list": {"x: &x " + strings.Repeat("x", 25_000) + "\ny: [" +
		strings.Repeat("*x,", 8_000) + "]\n", ""},
	"aliases of a long text by name": {"x: &x " + strings.Repeat("x", 25_000) + "\n" + each("k%d: *x\n", 8_000), ""},
	"aliases of a long text and no end": {"x: &x " + strings.Repeat("x", 500_000) + "\ny: [" +
		strings.Repeat("*x,", 160_000) + "]\n", tooMany},
	"sources that are one long text": {"x: &x " + strings.Repeat("x", 600_000) + "\nresources:\n" +
		each("  r%d: {type: oci-image, upstream-source: *x}\n", 3_000), ""},
	"a resource of many names": {"x: &x {type: oci-image, upstream-source: y}\nresources:\n" +
		each("  r%d: *x\n", 10_000), ""},
	"resources that share many fields": {"x: &x {" + each("a%d: b, ", 4_900) + "}\nresources: {" +
		each("r%d: *x,", 4_900) + "}", "stand for more than"},
	"merges of many fields": {"x: &x {" + each("a%d: b, ", 5_000) + "}\nresources: {a: {<<: [" +
		strings.Repeat("*x,", 8_000) + "]}}", "stand for more than"},
	"a merge of itself":           {"resources: {a: &a {<<: *a}}", "merges mappings that merge others"},
	"merges that double":          {doubled(24) + "resources: *a24\n", "stand for more than"},
	"a bomb that nothing reads":   {bomb(24), ""},
	"a bomb for resources":        {bomb(24) + "resources: *y0\n", "resources is a list"},
	"many keys":                   {each("k%d:\n", maxMarks), ""},
	"more keys than can be":       {each("k%d:\n", 100_000), tooMany},
	"one key many times":          {strings.Repeat("k:\n", maxMarks), "is there twice"},
	"a list of many":              {"a: [" + filled("a,") + "]", tooMany},
	"a mapping of many":           {"a: {" + filled("a,") + "}", tooMany},
	"as many lists as can be":     {"a: [" + strings.Repeat("[],", maxMarks/2-10) + "]", ""},
	"as many mappings as can be":  {"a: {" + strings.Repeat("?,", maxMarks/2-10) + "}", "is there twice"},
	"as many pairs as can be":     {"a: [" + strings.Repeat("b: ,", maxMarks/2-10) + "]", ""},
	"as many questions as can be": {strings.Repeat("?\n", maxMarks-10), "is there twice"},
	"as many comments as can be":  {each("#c\nk%d:\n", maxMarks/2-10), ""},
	"comments between entries": {"a:\n" +
		strings.Repeat("#"+strings.Repeat("c", 30)+"\n- b #"+strings.Repeat("d", 8)+"\n", maxMarks/3-10), ""},
	"comments within a flow": {"a: [" + strings.Repeat("#ccccccccccccccccccc\n\nb,\n", maxMarks/2-10) + "]",
		""},
	"comments with breaks of all kinds":  {strings.Repeat("#\u0085", maxMarks-10), ""},
	"comments alone":                     {filled("#\n"), tooMany},
	"open lists":                         {filled("["), tooMany},
	"as many open lists as can be":       {strings.Repeat("[", maxMarks), "exceeded max depth"},
	"open mappings":                      {filled("{"), tooMany},
	"lists in lists":                     {filled("- "), tooMany},
	"as many lists in lists as can be":   {strings.Repeat("- ", maxMarks), "exceeded max depth"},
	"as many keys in keys as can be":     {strings.Repeat("? ", maxMarks), "exceeded max depth"},
	"mappings that are ever deeper":      {deeper(1_400), ""},
	"documents":                          {filled("--- \n"), tooMany},
	"as many documents as can be":        {strings.Repeat("---\n", maxMarks-10), "a second document begins"},
	"documents that end":                 {"a: b\n" + filled("...\n"), ""},
	"tag directives":                     {each("%%TAG !a%d! x\n", 60_000) + "--- {a: b}\n", "directives"},
	"tag directives behind a line break": {"a: b\n...\r" + each("%%TAG !a%d! x\r", 60_000) + "---\ra: b\r", "directives"},
	"a long key":                         {filled("k") + ": v", "mapping values are not allowed"},
	"a long number":                      {"a: " + filled("1"), ""},
	"a long number with underscores":     {"a: 0x" + filled("1_"), ""},
	"a long fraction":                    {"a: ." + filled("1"), ""},
	"a long date":                        {"a: 2001-01-01 " + filled("1"), ""},
	"a long text":                        {"a: " + filled("b"), ""},
	"a long text of many lines":          {"a: " + filled("b\n "), ""},
	"a long text in quotes":              {"a: \"" + filled(`\n`) + "\"", ""},
	"a long text of empty lines":         {"a: |\n" + filled("\n") + " b\n", ""},
	"a long anchor":                      {"a: &" + filled("b") + " c", ""},
	"a long tag":                         {"a: !" + filled("%41") + " c", ""},
	"binary":                             {"a: !!binary " + filled("QUFB"), ""},
	"spaces":                             {filled(" "), ""},
	"UTF-16":                             {"\xff\xfe" + filled("a\x00"), "UTF-8"},
	"words that could be numbers":        {"a: " + filled("1\t"), ""},
	"bases that share architectures": {"x: &x [" + strings.Repeat("amd64,", 9_000) + "]\nbases: [" +
		strings.Repeat("{architectures: *x},", 3_000) + "]", ""},
	"noughts": {filled("\x00"), "control characters"},
}

const tooMany = "more keys and entries than"

// doubled is YAML whose mappings merge the one before twice.
func doubled(n int) string {
	b := strings.Builder{}
	b.WriteString("a0: &a0 {x: {}}\n")
	for i := range n {
		fmt.Fprintf(&b, "a%d: &a%d {<<: [*a%d, *a%d]}\n", i+1, i+1, i, i)
	}
	return b.String()
}

// deeper returns a YAML text with n mappings, each within the one before.
func deeper(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// The most that reading one YAML file may take.
const (
	mostBytes = 32 << 20 // allocated in total, which is more than is in use at any time
	mostTime  = time.Second
)

// TestHostileYAML: whatever 1 MiB of YAML holds, reading it takes little memory and time.
func TestHostileYAML(t *testing.T) {
	for name, test := range hostileYAML {
		t.Run(name, func(t *testing.T) {
			if len(test.text) > maxText {
				t.Fatalf("%d bytes are refused for their number", len(test.text))
			}
			if test.err != tooMany && marks([]byte(test.text)) > maxMarks {
				t.Fatalf("%d characters that can begin an entry: the rest isn't tried", marks([]byte(test.text)))
			}
			reading := map[string]func() error{
				"metadata": func() error { _, err := ReadMetadata(strings.NewReader(test.text)); return err },
				"manifest": func() error { _, err := readBases(strings.NewReader(test.text)); return err },
			}
			for kind, read := range reading {
				bytes, took, err := measured(read)
				if bytes > mostBytes || took > mostTime {
					t.Errorf("%s: %d MB were allocated in %s", kind, bytes>>20, took)
				}
				if kind == "metadata" && (test.err == "" && err != nil ||
					test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err))) {
					t.Errorf("got error %.300v, want %q", err, test.err)
				}
				if err != nil && len(err.Error()) > 10_000 {
					t.Errorf("%s: an error of %d bytes", kind, len(err.Error()))
				}
			}
		})
	}
}

// FuzzYAML: whatever the text is, the marks in it bound the nodes that it becomes, and with them the memory.
func FuzzYAML(f *testing.F) {
	for _, test := range hostileYAML {
		f.Add(test.text[:min(len(test.text), 100)])
	}
	f.Add("? {a: b}\n: [c: d, ? e, : f]\n")
	f.Add("- - a\n  - ? b\n-\u2028c: !t &d e\n#f\ng: *d")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := readYAML(strings.NewReader(text))
		if err != nil || d.root == nil {
			return
		}
		if n, marks := nodes(d.root), marks([]byte(text)); n > 2*marks+1 {
			t.Errorf("%d marks became %d nodes", marks, n)
		}
		for _, n := range d.entries(d.root, "") {
			_, _, _ = d.fields(n, ""), d.text(n, ""), d.boolean(n, "")
		}
		for _, n := range d.fields(d.root, "") {
			_ = d.entries(n, "")
		}
		if d.values > maxValues+1 {
			t.Errorf("%d values were looked at", d.values)
		}
	})
}

// nodes counts a node and those below it.
func nodes(n *yaml.Node) int {
	count := 1
	for _, below := range n.Content {
		count += nodes(below)
	}
	return count
}

// measured returns how many bytes a function allocates, and the processor's time that it takes.
func measured(f func() error) (bytes uint64, took time.Duration, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := processorTime()
	err = f()
	took = processorTime() - start
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, took, err
}

// processorTime returns how much processor time this process has used.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
