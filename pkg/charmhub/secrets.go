package charmhub

import (
	"encoding/base64"
	"fmt"
	"io"
	"slices"
)

// collect notes what must never be shown: the given texts, and each macaroon in them.
func (c *Credentials) collect(texts ...string) {
	texts = append(texts, c.token)
	if c.pair != nil {
		texts = append(texts, c.pair.root, c.pair.discharge, c.pair.bound)
	}
	for _, text := range texts {
		c.secrets = append(c.secrets, forms(text)...)
	}
	slices.Sort(c.secrets)
	c.secrets = slices.Compact(c.secrets)
}

// Secrets returns everything to mask: the text as it was given, what it decodes to, each macaroon in it, the bound
// discharge, and all of these in base64.
func (c *Credentials) Secrets() []string { return slices.Clone(c.secrets) }

// Format writes the same few words for every verb, so that no log or panic can show what is inside.
func (c *Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[store credentials]") }

// forms returns secret and its base64 spellings; none of an empty one.
func forms(secret string) []string {
	if secret == "" {
		return nil
	}
	raw := []byte(secret)
	return []string{
		secret,
		base64.StdEncoding.EncodeToString(raw),
		base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw),
		base64.RawURLEncoding.EncodeToString(raw),
	}
}
