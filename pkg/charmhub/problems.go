package charmhub

import (
	"encoding/json"
	"slices"
	"strings"
)

// problem is one entry of an error list, already harmless.
type problem struct{ Code, Message text }

// text is a JSON string as a line that is safe to print. Any other JSON value, such as the null that some codes are,
// becomes "".
type text string

// UnmarshalJSON implements [json.Unmarshaler]. It never fails.
func (t *text) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		*t = text(harmless(s, 500))
	}
	return nil
}

// parseProblems reads {"error-list":[…]}, the snap side's {"error_list":[…]} and single sign-on's {"code","message"}.
// It returns nil for any other text.
func parseProblems(raw []byte) []problem {
	var answer struct {
		Charmhub []problem `json:"error-list"`
		Snap     []problem `json:"error_list"`
		problem
	}
	// One entry of an unknown shape must not hide the others.
	_ = json.Unmarshal(raw, &answer)
	list := slices.Concat(answer.Charmhub, answer.Snap)
	if len(list) == 0 && answer.problem != (problem{}) {
		list = []problem{answer.problem}
	}
	return list[:min(len(list), 10)]
}

// summary returns the first code and all messages.
func summary(list []problem) (code, message string) {
	var messages []string
	for _, p := range list {
		if code == "" {
			code = string(p.Code)
		}
		if p.Message != "" {
			messages = append(messages, string(p.Message))
		}
	}
	return code, strings.Join(messages, "; ")
}

// hasCode reports whether one of the problems has the code.
func hasCode(list []problem, code text) bool {
	return slices.ContainsFunc(list, func(p problem) bool { return p.Code == code })
}
