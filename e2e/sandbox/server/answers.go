package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
)

// maxJSON bounds the bodies that the sandbox reads as JSON, in bytes.
const maxJSON = 1 << 20

// refusal is an error as the store tells it: a status and an error list.
type refusal struct {
	status  int
	code    string
	message string
}

// Error returns the code and the message.
func (r *refusal) Error() string { return r.code + ": " + r.message }

// refuse returns the error that is answered with this HTTP status, and an error list of this code and message.
func refuse(status int, code, message string) error {
	return &refusal{status: status, code: code, message: message}
}

// plainText is an answer that isn't JSON.
type plainText string

// answer writes a value as JSON, a text as it is, or an error as an error list.
func answer(w http.ResponseWriter, value any, err error) {
	if err != nil {
		answerError(w, err)
		return
	}
	if text, ok := value.(plainText); ok {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, string(text)) //nolint:gosec // as text/plain
		return
	}
	answerJSON(w, http.StatusOK, value)
}

// answerError answers with an error list: that of a refusal, or 500 for any other error.
func answerError(w http.ResponseWriter, err error) {
	refused := &refusal{status: http.StatusInternalServerError, code: "internal-server-error", message: err.Error()}
	errors.As(err, &refused)
	var code any // some of the store's errors have none
	if refused.code != "" {
		code = refused.code
	}
	answerJSON(w, refused.status, map[string]any{
		"error-list": []map[string]any{{"code": code, "message": refused.message}},
	})
}

// answerJSON answers with value as JSON.
func answerJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, toJSON(value)+"\n")
}

// inForm gives the answers of the store the form that the options ask for, and the headers that each has.
func (s *Server) inForm(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := mux.Handler(r)
		w.Header().Set("X-Request-Id", randomText())
		w.Header().Set("X-View-Name", viewName(pattern))
		if !s.options.SpacedJSON {
			mux.ServeHTTP(w, r)
			return
		}
		compact := httptest.NewRecorder()
		mux.ServeHTTP(compact, r)
		maps.Copy(w.Header(), compact.Header())
		w.WriteHeader(compact.Code)
		var spaced bytes.Buffer
		if json.Indent(&spaced, bytes.TrimSpace(compact.Body.Bytes()), "", "  ") != nil {
			spaced = *compact.Body
		}
		_, _ = w.Write(spaced.Bytes())
	})
}

// viewName makes a name of the pattern of a call: get-v1-charm-resources.
func viewName(pattern string) string {
	words := strings.FieldsFunc(strings.ToLower(pattern), func(c rune) bool { return c == ' ' || c == '/' })
	words = slices.DeleteFunc(words, func(word string) bool { return strings.HasPrefix(word, "{") })
	return strings.Join(words, "-")
}

// readJSON decodes a request's body, or refuses it with 400.
func readJSON(r *http.Request, value any) error {
	if err := json.NewDecoder(io.LimitReader(r.Body, maxJSON)).Decode(value); err != nil {
		return refuse(http.StatusBadRequest, "api-error", "the request's body is not the expected JSON: "+err.Error())
	}
	return nil
}
