package checktoken

import (
	"errors"
	"strconv"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
)

// Inputs holds a step's inputs after they were checked.
type Inputs struct {
	Charm     string       // name on Charmhub
	Tokens    []GivenToken // one or two
	WarnDays  int          // a token with fewer days left is a warning
	FailDays  int          // and with fewer than these, an error
	Endpoints inputs.Endpoints
}

// GivenToken is a token to check.
type GivenToken struct {
	Input       string // that has it
	Credentials *charmhub.Credentials
	Releases    bool // it is for releases, which includes uploads of charm files; else for uploads
}

// none is the word for a release-token that there isn't.
const none = "none"

// ReadInputs reads the inputs of the step and checks them. The error joins every complaint there is, each with what to
// write instead. It makes no call.
func ReadInputs(runner *action.Runner) (Inputs, error) {
	r := &inputs.Reader{Runner: runner}
	token, releaseToken := r.Token(), r.Input("release-token")
	r.Mask(releaseToken)
	in := Inputs{Charm: r.Input("charm")}
	r.CheckName("charm", "my-charm", charm.CheckName)
	add := func(input, token string, releases bool) {
		in.Tokens = append(in.Tokens, GivenToken{input, r.Credentials(input, token, in.Charm, releases), releases})
	}
	switch releaseToken {
	case none:
		add("store-token", token, false)
	case "", token:
		add("store-token", token, true)
	default:
		add("store-token", token, false)
		add("release-token", releaseToken, true)
	}
	in.WarnDays, in.FailDays = days(r, "warn-days", 14), days(r, "fail-days", 0)
	in.Endpoints = r.Endpoints()
	return in, errors.Join(r.Complaints...)
}

// days reads a number of days.
func days(r *inputs.Reader, input string, absent int) int {
	value := r.Input(input)
	if value == "" {
		return absent
	}
	number, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		r.Complain("input %s: %.80q is no number of days; write one, for example 14", input, value)
	}
	return int(number)
}
