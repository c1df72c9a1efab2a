package server

import (
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
)

// stored is content that the sandbox keeps in a file.
type stored struct {
	path string
	size int64
	sums map[string]string // hex, by the names of the revision list
}

// upload is content that waits to become a revision, once.
type upload struct {
	stored
	used bool
}

// storageHandler takes uploads. Whether the real storage asks for the token isn't known: this one takes it or leaves
// it.
func (s *Server) storageHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /unscanned-upload/", func(w http.ResponseWriter, r *http.Request) {
		id, err := s.receive(r)
		if err != nil {
			answerJSON(w, http.StatusBadRequest, map[string]any{"successful": false, "errors": []string{err.Error()}})
			return
		}
		answerJSON(w, http.StatusOK, map[string]any{"successful": true, "upload_id": id})
	})
	mux.HandleFunc("GET "+contentPath+"{sum}", s.serveContent)
	return mux
}

// receive stores an upload, and returns its ID. The request has one field, which holds the content.
func (s *Server) receive(r *http.Request) (string, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return "", fmt.Errorf("the upload is not a multipart form: %w", err)
	}
	part, err := form.NextPart()
	if err != nil {
		return "", fmt.Errorf("reading the upload: %w", err)
	}
	if part.FormName() != "binary" || part.FileName() == "" {
		return "", fmt.Errorf("the upload's field is %q with file name %q: it must be binary, with one", part.FormName(),
			part.FileName())
	}
	id := randomText()
	content, err := store(filepath.Join(s.dir, "uploads", id), part)
	if err != nil {
		return "", fmt.Errorf("reading the upload: %w", err)
	}
	if err := atEnd(form); err != nil {
		return "", errors.Join(err, os.Remove(content.path))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploads[id] = &upload{stored: content}
	return id, nil
}

// atEnd returns an error if the form has another part.
func atEnd(form *multipart.Reader) error {
	if _, err := form.NextPart(); !errors.Is(err, io.EOF) {
		return errors.New("the upload doesn't end after its one field")
	}
	return nil
}

// store writes content to a new file, with its hashes; on an error the file is gone.
func store(path string, content io.Reader) (_ stored, err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return stored{}, err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	hashes := map[string]hash.Hash{
		"sha256": sha256.New(), "sha384": sha512.New384(), "sha512": sha512.New(), "sha3-384": sha3.New384(),
	}
	all := []io.Writer{file}
	for _, h := range hashes {
		all = append(all, h)
	}
	size, err := io.Copy(io.MultiWriter(all...), content)
	sums := map[string]string{}
	for name, h := range hashes {
		sums[name] = hex.EncodeToString(h.Sum(nil))
	}
	return stored{path: path, size: size, sums: sums}, err
}
