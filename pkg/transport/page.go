package transport

import (
	"bufio"
	"bytes"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"unicode"
)

// PageError says that an API request was answered with a web page, as a proxy or a network's sign-in page does.
type PageError struct {
	Host  string
	Title string // of the page, on one line; empty if it has none
}

// Error says who answered with a page, and what to check.
func (e *PageError) Error() string {
	title := ""
	if e.Title != "" {
		title = fmt.Sprintf(", %q,", e.Title)
	}
	return fmt.Sprintf("%s answered with a web page%s as a proxy or the sign-in page of a network does; "+
		"check its address, and that this machine reaches it, by the proxy of HTTPS_PROXY if there is one", e.Host, title)
}

// pages turns successful answers that are web pages into errors. A blob may be a page, and so may the text of a
// failure.
type pages struct{ base http.RoundTripper }

// pageStart is as much of an answer as tells whether it is a page, and its title.
const pageStart = 4 << 10

// What the start of a web page looks like, and its title.
var (
	beginsPage = regexp.MustCompile(`(?i)^\s*<(?:!doctype\s+html|html|head)\b`)
	pageTitle  = regexp.MustCompile(`(?is)<title[^>]*>(.{1,200}?)</title>`)
)

// RoundTrip fails with a [*PageError].
func (p pages) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := p.base.RoundTrip(req)
	if err != nil || res.StatusCode/100 != 2 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") ||
		req.Method == http.MethodHead || strings.Contains(req.URL.Path, "/blobs/sha") {
		return res, err
	}
	body := bufio.NewReaderSize(res.Body, pageStart)
	start, _ := body.Peek(pageStart)
	if !beginsPage.Match(start) {
		res.Body = struct {
			io.Reader
			io.Closer
		}{body, res.Body}
		return res, nil
	}
	_ = res.Body.Close()
	return nil, &PageError{req.URL.Host, titleOf(start)}
}

// titleOf returns the title of a page as one printable line; empty if it has none.
func titleOf(page []byte) string {
	title := pageTitle.FindSubmatch(page)
	if title == nil {
		return ""
	}
	text := html.UnescapeString(string(bytes.ToValidUTF8(title[1], nil)))
	return strings.Join(strings.FieldsFunc(text, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) }),
		" ")
}
