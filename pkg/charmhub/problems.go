package charmhub

import (
	"encoding/json"
	"slices"
	"strings"
)

// problem is one entry of an error list, already harmless.
type problem struct{ Code, Message text }

// text reads a JSON string as a line that is safe to print, and anything else,
// such as the null that some codes are, as nothing.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		*t = text(harmless(s, 500))
	}
	return nil
}

// parseProblems reads {"error-list":[…]}, the snap side's {"error_list":[…]} and
// single sign-on's {"code","message"}. Of anything else it returns nothing.
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

func hasCode(list []problem, code text) bool {
	return slices.ContainsFunc(list, func(p problem) bool { return p.Code == code })
}
