package checktoken

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/action"
)

// Reporter is where the results are reported to, as [action.Runner] is.
type Reporter interface {
	Logger() *zap.Logger
	AddSummary(markdown string) error
	SetOutputs(outputs ...action.Output) error
}

// Report logs what the tokens can do, warns of those that end soon, and writes the step's summary and its outputs.
// Problems are in the summary and the outputs only, since the error has them.
func Report(to Reporter, in Inputs, results []Result) error {
	for _, r := range results {
		if r.Valid {
			to.Logger().Info(r.line())
		}
		if r.Warning != "" {
			to.Logger().Warn(r.Warning)
		}
	}
	if err := to.AddSummary(summary(in, results)); err != nil { // what it would say is in the outputs
		to.Logger().Warn(err.Error())
	}
	outputs, err := outputs(results)
	if err != nil {
		return err
	}
	return to.SetOutputs(outputs...)
}

// line says what the token is.
func (r Result) line() string {
	end := "when it expires is unknown, since neither the token nor Charmhub says"
	if r.DaysLeft != nil {
		end = r.ending()
	}
	return fmt.Sprintf("%s: account '%s', charms %s, channels %s, permissions %s; %s",
		r.Input, r.Known.Account, list(r.Known.Charms), list(r.Known.Channels), list(r.Known.Permissions), end)
}

// list joins what a token is limited to.
func list(limits []string) string {
	if limits == nil {
		return "all"
	}
	return strings.Join(limits, ", ")
}

// complaints are the problems of a token, or else its warning.
func (r Result) complaints() (texts []string) {
	for _, problem := range r.Problems {
		texts = append(texts, problem.Error())
	}
	if r.Warning != "" {
		texts = append(texts, r.Warning)
	}
	return texts
}

// outputs returns the outputs of the step. The output tokens is a JSON list, in the order of the results.
func outputs(results []Result) ([]action.Output, error) {
	type token struct {
		Input       string   `json:"input"`
		Valid       bool     `json:"valid"`
		Account     string   `json:"account"`
		Charms      []string `json:"charms"`
		Channels    []string `json:"channels"`
		Permissions []string `json:"permissions"`
		Missing     []string `json:"missing"`
		Expires     *string  `json:"expires"`
		DaysLeft    *int     `json:"days-left"`
	}
	left := "unknown"
	var fewest *int
	var tokens []token
	var report []string
	for _, r := range results {
		one := token{r.Input, r.Valid, r.Known.Account, r.Known.Charms, r.Known.Channels, r.Known.Permissions,
			append([]string{}, r.Missing...), nil, r.DaysLeft}
		if r.DaysLeft != nil {
			expires := r.Known.Expires.Format(time.RFC3339)
			one.Expires = &expires
			if fewest == nil || *r.DaysLeft < *fewest {
				fewest = r.DaysLeft
				left = strconv.Itoa(*fewest)
			}
		}
		tokens = append(tokens, one)
		report = append(report, r.complaints()...)
	}
	text, err := json.Marshal(tokens)
	return []action.Output{
		{Name: "days-left", Value: left},
		{Name: "report", Value: strings.Join(strings.Fields(strings.Join(report, ". ")), " ")},
		{Name: "tokens", Value: string(text)},
	}, err
}

// summary is a table of the tokens, and what is wrong with them.
func summary(in Inputs, results []Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Tokens for charm %s\n\n| Input | Account | Charms | Channels | Permissions | Days left "+
		"|\n|---|---|---|---|---|---|\n", action.Code(in.Charm))
	for _, r := range results {
		left := "unknown"
		if r.DaysLeft != nil {
			left = fmt.Sprintf("%d, until %s", *r.DaysLeft, r.Known.Expires.Format("2006-01-02"))
		}
		if !r.Valid {
			fmt.Fprintf(&b, "| %s | **not valid** | | | | |\n", action.Code(r.Input))
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", action.Code(r.Input), action.Escape(r.Known.Account),
			action.Escape(list(r.Known.Charms)), action.Escape(list(r.Known.Channels)),
			action.Escape(list(r.Known.Permissions)), left)
	}
	for _, r := range results {
		for _, text := range r.complaints() {
			fmt.Fprintf(&b, "\n- %s\n", action.Escape(text))
		}
	}
	return b.String()
}
