package action

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/sethvargo/go-githubactions"
)

// minSecret is the length in bytes below which a value isn't treated as secret. No credential here is that short, and
// *** in place of every "on" or "1234" would make a log unreadable, and show exactly where the value is.
const minSecret = 6

// Mask hides a secret: from now on this package and the runner print *** in its place. A secret of several lines is
// masked line by line, because a runner looks at single lines. Values shorter than six bytes are ignored. Encoded forms
// of a secret are secrets of their own: pass each.
//
// Under Actions this prints the value once, inside the command that asks the runner to hide it; the runner doesn't show
// that line.
func (r *Runner) Mask(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range splitLines(secret) {
		if line = strings.TrimSpace(line); r.secrets.add(line) && r.actions {
			command := githubactions.Command{Name: "add-mask", Message: line}
			r.writeLocked(command.String())
		}
	}
}

// redact returns text without the secrets known so far.
func (r *Runner) redact(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.secrets.redact(text)
}

// redactor is a set of secrets, each in the forms that printing can give it.
type redactor map[string]bool

// add reports whether secret was long enough and not known before.
func (d redactor) add(secret string) bool {
	if len(secret) < minSecret || d[secret] {
		return false
	}
	quoted := strconv.Quote(secret)
	encoded, _ := json.Marshal(secret) // a string can always be encoded
	for _, form := range []string{secret, quoted[1 : len(quoted)-1], string(encoded[1 : len(encoded)-1]), Escape(secret)} {
		d[form] = true
	}
	return true
}

// redact returns text with *** for each stretch covered by secrets. It looks for all of them before it replaces any:
// where two overlap, replacing the first would leave the end of the second.
func (d redactor) redact(text string) string {
	hidden := d.find(text)
	if hidden == nil {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !hidden[i]:
			b.WriteByte(text[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString("***")
		}
	}
	return b.String()
}

// find returns for each byte of text whether it is part of a secret; nil means that none is.
func (d redactor) find(text string) []bool {
	var hidden []bool
	for secret := range d {
		for from := 0; ; from++ {
			at := strings.Index(text[from:], secret)
			if at < 0 {
				break
			}
			if hidden == nil {
				hidden = make([]bool, len(text))
			}
			from += at
			for i := range len(secret) {
				hidden[from+i] = true
			}
		}
	}
	return hidden
}
