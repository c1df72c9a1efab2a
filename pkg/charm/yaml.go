package charm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds on the YAML of a charm. Real files have some thousand bytes and some hundred keys. The parser takes up to a
// kilobyte of memory for each mark, and compares each directive with all others.
const (
	maxText       = 1 << 20 // bytes
	maxMarks      = 20_000  // characters that can begin a key, a value, an entry or a comment
	maxDirectives = 100     // %TAG
	maxValues     = 50_000  // keys and entries that are looked at, again where an alias or a merge repeats them
	maxMerges     = 100     // mappings that are merged into one another
	maxComplaints = 10
)

// document is a YAML document. Its methods return the value of a node, and the zero value for nil and for null. They
// add what is wrong to the complaints.
type document struct {
	root       *yaml.Node // nil for an empty document
	values     int        // that were looked at
	complaints []error
}

// readYAML reads at most maxText bytes of YAML, which must be one document without duplicate keys.
func readYAML(r io.Reader) (*document, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err == nil {
		err = checkText(text)
	}
	if err != nil {
		return nil, err
	}
	var first, second yaml.Node
	parser := yaml.NewDecoder(bytes.NewReader(text))
	switch err := parser.Decode(&first); {
	case errors.Is(err, io.EOF):
		return &document{}, nil
	case err != nil:
		return nil, err
	}
	if err := parser.Decode(&second); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("line %d: a second document begins; write one document", second.Line)
		}
		return nil, err
	}
	d := &document{root: first.Content[0]}
	d.checkKeys(d.root)
	return d, d.err()
}

// checkText returns an error for a text that would take much memory or time to parse.
func checkText(text []byte) error {
	switch {
	case len(text) > maxText:
		return fmt.Errorf("more than %d bytes, which no charm's has", maxText)
	case !utf8.Valid(text):
		return errors.New("the text isn't UTF-8; save it as UTF-8")
	case bytes.Count(text, []byte("%TAG")) > maxDirectives:
		return fmt.Errorf("more than %d directives, which no charm's has", maxDirectives)
	case marks(text) > maxMarks:
		return fmt.Errorf("more keys and entries than the %d that a charm's may have", maxMarks)
	}
	return nil
}

// marks returns an upper bound of the keys, entries and comments in YAML. One of the characters that it counts is
// before each of them, and some are only text.
func marks(text []byte) (n int) {
	for i, c := range text {
		switch c {
		case ',', ':', '?', '[', '{', '#':
			n++
		case '-':
			if i+1 == len(text) || text[i+1] <= ' ' || text[i+1] >= utf8.RuneSelf { // some line breaks aren't ASCII
				n++
			}
		}
	}
	return n
}

// checkKeys complains about duplicate keys in the mappings at and below n, because parsers differ in which of the two
// they use.
func (d *document) checkKeys(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]int, len(n.Content)/2)
		for i := 0; i < len(n.Content); i += 2 {
			key := resolve(n.Content[i])
			if key.Kind != yaml.ScalarNode {
				d.complain(n.Content[i], "a key is %s; write a text", kind(key))
			} else if line, twice := seen[key.Value]; twice {
				d.complain(n.Content[i], "the key %.80q is there twice, first in line %d; remove one of them", key.Value, line)
			}
			seen[key.Value] = n.Content[i].Line
		}
	}
	for _, below := range n.Content {
		d.checkKeys(below)
	}
}

// fields returns the values of a mapping by key, with those of the mappings that it merges (<<).
func (d *document) fields(n *yaml.Node, what string) map[string]*yaml.Node {
	fields := map[string]*yaml.Node{}
	d.collect(n, what, fields, 0)
	return fields
}

// collect adds to fields what isn't there yet: a mapping's own keys come before what it merges.
func (d *document) collect(n *yaml.Node, what string, fields map[string]*yaml.Node, depth int) {
	n = resolve(n)
	switch {
	case isNull(n):
		return
	case n.Kind != yaml.MappingNode:
		d.complain(n, "%s is %s; write a mapping", what, kind(n))
		return
	case depth > maxMerges:
		d.complain(n, "%s merges mappings that merge others, more than %d; write it without merges", what, maxMerges)
		return
	}
	merged := &yaml.Node{}
	for i := 0; i < len(n.Content) && d.countValue(n); i += 2 {
		key := resolve(n.Content[i])
		if key.Tag == "!!merge" {
			merged = resolve(n.Content[i+1])
		} else if _, overridden := fields[key.Value]; !overridden {
			fields[key.Value] = n.Content[i+1]
		}
	}
	if merged.Kind != yaml.SequenceNode {
		d.collect(merged, what, fields, depth+1)
		return
	}
	for _, each := range merged.Content {
		if d.countValue(n) {
			d.collect(each, what, fields, depth+1)
		}
	}
}

// entries returns the entries of a list.
func (d *document) entries(n *yaml.Node, what string) []*yaml.Node {
	n = resolve(n)
	switch {
	case isNull(n):
		return nil
	case n.Kind != yaml.SequenceNode:
		d.complain(n, "%s is %s; write a list", what, kind(n))
		return nil
	}
	for range n.Content {
		if !d.countValue(n) {
			return nil
		}
	}
	return n.Content
}

// text returns a text, or a number or a truth value as it is written.
func (d *document) text(n *yaml.Node, what string) string {
	n = resolve(n)
	switch {
	case isNull(n):
		return ""
	case n.Kind != yaml.ScalarNode:
		d.complain(n, "%s is %s; write a text", what, kind(n))
	}
	return n.Value
}

// boolean returns a truth value in the spellings of YAML 1.1, which charmcraft reads.
func (d *document) boolean(n *yaml.Node, what string) bool {
	switch value := d.text(n, what); value {
	case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON":
		return true
	case "", "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF":
	default:
		d.complain(resolve(n), "%s is %.80q; write true or false", what, value)
	}
	return false
}

// countValue counts one more value, and reports whether the document may still have it. Aliases can repeat values
// without end, so at most maxValues are read.
func (d *document) countValue(n *yaml.Node) bool {
	d.values++
	if d.values == maxValues+1 {
		d.complain(n, "aliases and merges stand for more than %d values; write the file without them", maxValues)
	}
	return d.values <= maxValues
}

// complain adds an error about the line of n, unless there are maxComplaints already.
func (d *document) complain(n *yaml.Node, format string, args ...any) {
	if len(d.complaints) < maxComplaints {
		d.complaints = append(d.complaints, fmt.Errorf("line %d: "+format, append([]any{n.Line}, args...)...))
	}
}

// err returns the complaints, nil for none.
func (d *document) err() error { return errors.Join(d.complaints...) }

// resolve returns what an alias stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// isNull reports whether n holds nothing: nil, or YAML's null.
func isNull(n *yaml.Node) bool { return n == nil || n.Kind == 0 || n.Tag == "!!null" }

// kind returns what a node is, as a phrase for an error.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a text"
	}
}
