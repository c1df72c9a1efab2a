package server

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// maxJSON bounds the bodies that the sandbox reads as JSON, in bytes.
const maxJSON = 1 << 20

// refusal is an error as the store tells it: a status and an error list.
type refusal struct {
	status  int
	code    string
	message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

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
		_, _ = io.WriteString(w, string(text))
		return
	}
	answerJSON(w, http.StatusOK, value)
}

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

func answerJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// readJSON decodes a request's body, or refuses it with 400.
func readJSON(r *http.Request, value any) error {
	if err := json.NewDecoder(io.LimitReader(r.Body, maxJSON)).Decode(value); err != nil {
		return refuse(http.StatusBadRequest, "api-error", "the request's body is not the expected JSON: "+err.Error())
	}
	return nil
}
