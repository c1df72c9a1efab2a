package charmhub

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// empty opens a content of no bytes.
func empty() (io.ReadCloser, error) { return http.NoBody, nil }

// tracked counts how often it was opened and closed.
type tracked struct{ opened, closed int }

// open returns a function that opens the content and counts each call.
func (c *tracked) open(content string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		c.opened++
		return struct {
			io.Reader
			io.Closer
		}{strings.NewReader(content), c}, nil
	}
}

func (c *tracked) Close() error { c.closed++; return nil }

func TestUploadSendsOneField(t *testing.T) {
	content := strings.Repeat("content\x00", 100_000)
	client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength <= int64(len(content)) || len(r.TransferEncoding) != 0 {
			t.Errorf("Content-Length is %d, Transfer-Encoding %v", r.ContentLength, r.TransferEncoding)
		}
		form, err := r.MultipartReader()
		if err != nil {
			t.Fatal(err)
		}
		part, err := form.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(part)
		if part.FormName() != "binary" || part.FileName() != `we"ird.txt` || string(got) != content {
			t.Errorf("field %q, file %q, %d bytes", part.FormName(), part.FileName(), len(got))
		}
		if _, err := form.NextPart(); !errors.Is(err, io.EOF) {
			t.Errorf("a second field: %v", err)
		}
		answer(200, `{"successful":true,"upload_id":"up-1"}`)(w, r)
	})
	var file tracked
	id, err := client.Upload(t.Context(), `we"ird.txt`, int64(len(content)), file.open(content))
	if err != nil || id != "up-1" {
		t.Errorf("got %q, %v", id, err)
	}
	if file != (tracked{1, 1}) {
		t.Errorf("opened and closed %v times", file)
	}
	if rec.log() != "POST /unscanned-upload/" {
		t.Error(rec.log())
	}
}

// endless is content that cannot be held in memory.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) { e.read += int64(len(p)); return len(p), nil }
func (*endless) Close() error                 { return nil }

func TestUploadStreams(t *testing.T) {
	const terabyte = 1 << 40
	content := &endless{}
	client, _ := serve(t, nil)
	client.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		defer r.Body.Close()
		if r.ContentLength <= terabyte || r.ContentLength > terabyte+1000 {
			t.Errorf("Content-Length is %d", r.ContentLength)
		}
		if content.read != 0 {
			t.Errorf("%d bytes were read before the first was sent", content.read)
		}
		if _, err := io.CopyN(io.Discard, r.Body, 1<<20); err != nil {
			t.Error(err)
		}
		if content.read > 2<<20 {
			t.Errorf("%d bytes were read to send a megabyte", content.read)
		}
		return nil, io.ErrClosedPipe
	})
	_, err := client.Upload(t.Context(), "f", terabyte, func() (io.ReadCloser, error) { return content, nil })
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestUploadCanBeReplayed(t *testing.T) {
	var file tracked
	client, _ := serve(t, nil)
	client.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		first, _ := io.ReadAll(r.Body)
		again, err := r.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		second, _ := io.ReadAll(again)
		if !bytes.Equal(first, second) || int64(len(first)) != r.ContentLength {
			t.Errorf("first %d bytes, then %d, announced %d", len(first), len(second), r.ContentLength)
		}
		_, _ = r.Body.Close(), again.Close()
		return reply(r, 200, `{"successful":true,"upload_id":"u"}`), nil
	})
	if _, err := client.Upload(t.Context(), "f", 3, file.open("abc")); err != nil {
		t.Fatal(err)
	}
	if file != (tracked{2, 2}) {
		t.Errorf("opened and closed %v times", file)
	}
}

func TestUploadFailures(t *testing.T) {
	for _, body := range []string{`{"successful":false,"upload_id":"u"}`, `{"successful":true}`, `{"upload_id":"u"}`} {
		client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			answer(200, body)(w, r)
		})
		if _, err := client.Upload(t.Context(), "f", 0, empty); err == nil ||
			!strings.Contains(err.Error(), "cannot upload 'f'") {
			t.Errorf("%s gives %v", body, err)
		}
	}
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer(200, `{"successful":true,"upload_id":"u"}`)(w, r)
	})
	gone := errors.New("it is gone")
	if _, err := client.Upload(t.Context(), "f", 0, func() (io.ReadCloser, error) { return nil, gone }); !errors.Is(err,
		gone) {
		t.Errorf("got %v", err)
	}
	var file tracked
	if _, err := client.Upload(t.Context(), "f", 10, file.open("shorter")); err == nil {
		t.Error("a file that shrank was uploaded")
	}
	if _, err := client.Upload(t.Context(), "f", 3, file.open("longer than that")); err == nil {
		t.Error("a file that grew was uploaded")
	}
}
