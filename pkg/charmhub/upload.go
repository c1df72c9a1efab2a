package charmhub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// The storage looks at content of more than so many bytes before it answers.
const (
	largeContent = 1 << 20
	largeAnswer  = 10 * time.Minute
)

// PrepareUpload begins to open the connection that [Client.Upload] is going to need, and returns at once: call it
// before other work.
func (c *Client) PrepareUpload(ctx context.Context) {
	if u, err := url.Parse(c.config.StorageURL); err == nil {
		c.config.Connect(ctx, u)
	}
}

// Upload sends content to the storage host and returns the ID that [Client.CreateRevision] takes: POST
// {storage}/unscanned-upload/. name is the file name to send along and size the content's length in bytes. open is
// called for each time the content is sent; it is streamed, never held in memory.
func (c *Client) Upload(
	ctx context.Context, name string, size int64, open func() (io.ReadCloser, error),
) (uploadID string, err error) {
	form, err := multipartBody(name, size, open)
	if err != nil {
		return "", fmt.Errorf("cannot upload %s: %w", quoted(name), err)
	}
	r := request{
		doing:  "upload " + quoted(name),
		method: http.MethodPost, base: c.config.StorageURL, path: "/unscanned-upload/",
		body: form, permission: manageRevisions,
	}
	if form.length > largeContent {
		ctx = transport.AnswerWithin(ctx, largeAnswer)
	}
	var answer struct {
		Successful bool   `json:"successful"`
		UploadID   string `json:"upload_id"`
	}
	if err := c.ask(ctx, r, &answer); err != nil {
		return "", err
	}
	if !answer.Successful || answer.UploadID == "" {
		return "", fmt.Errorf("cannot %s: the storage took it but reports no success; run this again later", r.doing)
	}
	return answer.UploadID, nil
}

// multipartBody frames content as the one field of a form. Head and tail are made once, so that the length is known
// before the content is read, and any replay sends the same bytes.
func multipartBody(name string, size int64, open func() (io.ReadCloser, error)) (*body, error) {
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	if _, err := form.CreateFormFile("binary", name); err != nil {
		return nil, err
	}
	cut := frame.Len()
	if err := form.Close(); err != nil {
		return nil, err
	}
	head, tail := frame.Bytes()[:cut], frame.Bytes()[cut:]
	return &body{
		contentType: form.FormDataContentType(),
		length:      int64(frame.Len()) + size,
		open: func() (io.ReadCloser, error) {
			content, err := open()
			if err != nil {
				return nil, err
			}
			return struct {
				io.Reader
				io.Closer
			}{io.MultiReader(bytes.NewReader(head), &exactSizeReader{content, size}, bytes.NewReader(tail)), content}, nil
		},
	}, nil
}

// exactSizeReader reads content of a known size, and fails if the content turns out shorter or longer: content that
// changes while it is sent must not become a revision.
type exactSizeReader struct {
	content   io.Reader
	remaining int64
}

// Read implements [io.Reader]. It fails for content that is shorter or longer than remaining says.
func (r *exactSizeReader) Read(p []byte) (int, error) {
	if r.remaining == 0 {
		n, err := io.ReadFull(r.content, make([]byte, 1))
		if n > 0 {
			return 0, errors.New("the content grew while it was sent; let nothing write to it during the run")
		}
		return 0, err
	}
	n, err := r.content.Read(p[:min(int64(len(p)), r.remaining)])
	r.remaining -= int64(n)
	switch {
	case !errors.Is(err, io.EOF):
		return n, err
	case r.remaining > 0:
		return n, errors.New("the content shrank while it was sent; let nothing write to it during the run")
	default:
		return n, nil // the next call finds out whether that was all
	}
}
