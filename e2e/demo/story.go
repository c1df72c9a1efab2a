package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/program"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/pkg/action"
)

// settings is the content of the file that is uploaded.
const settings = "log-level: info\nreplicas: 3\n"

// step is one run of the action, and what has to come of it.
type step struct {
	title    string
	short    string // for the table
	resource string
	input    string // what to upload, as NAME=value
	revision int
	created  bool
	after    int // the number of the step that uploaded the same, or most of it; 0 for none
}

// outcome is what a run of the action logged, output and sent, and the revisions after it.
type outcome struct {
	outputs   map[string]string
	requests  int
	sent      int64             // bytes that the registry and the storage received
	logged    string            // how much was sent by the log's last line: blobs of the image, or the file
	revisions []server.Revision // of the step's resource
}

// runSteps runs the steps in their order, each on what the ones before left, and
// prints what each cost.
func (d *demo) runSteps(ctx context.Context) error {
	const file = "settings.yaml"
	image, err := d.images.make(ctx, "image-1.tar", d.program, "Hello!")
	if err != nil {
		return err
	}
	changed, err := d.images.make(ctx, "image-2.tar", d.program, "Hello again!")
	if err := errors.Join(err, os.WriteFile(filepath.Join(d.dir, file), []byte(settings), 0o600)); err != nil {
		return err
	}
	var table strings.Builder
	columns := tabwriter.NewWriter(&table, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(columns, "step\tsent\twith manifests and forms\trequests\trevision\ttime")
	outcomes := []*outcome{nil} // by number
	for i, s := range []step{
		{"An image, for the first time", "image", imageResource, image, 1, true, 0},
		{"The same image again", "same image", imageResource, image, 1, false, 1},
		{"The image with another last layer", "changed image", imageResource, changed, 2, true, 1},
		{"A file", "file", fileResource, "filepath=" + file, 1, true, 0},
		{"The same file again", "same file", fileResource, "filepath=" + file, 1, false, 4},
	} {
		d.printf("\n%d. %s (%s)\n", i+1, s.title, shorten(s.input))
		began := time.Now()
		o, err := d.runAction(ctx, s)
		took := time.Since(began)
		if err == nil {
			outcomes = append(outcomes, o)
			err = d.check(ctx, s, o, outcomes[s.after])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
		news := map[bool]string{true: "new", false: "unchanged"}[s.created]
		_, _ = fmt.Fprintf(columns, "%d. %s\t%s\t%s\t%d\t%d (%s)\t%s\n",
			i+1, s.short, o.logged, action.Size(o.sent), o.requests, s.revision, news, seconds(took))
	}
	_ = columns.Flush()
	d.printf("\n%s\nEvery check passed: unchanged content was neither sent again nor made a new revision.\n",
		table.String())
	return nil
}

// runAction runs the action as a workflow step in the workspace, prints its log
// and the main outputs, and fails when it does. All that the action sees of this
// machine's environment is what leads it to the container engine.
func (d *demo) runAction(ctx context.Context, s step) (*outcome, error) {
	outputs := filepath.Join(d.dir, "outputs")
	if err := os.WriteFile(outputs, nil, 0o600); err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, d.program) //nolint:gosec // what the demo built
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	command.Dir = d.dir
	name, value, _ := strings.Cut(s.input, "=")
	command.Env = append(d.sandbox.Env(), "INPUT_CHARM="+charm, "INPUT_RESOURCE="+s.resource,
		"INPUT_"+strings.ToUpper(name)+"="+value, "GITHUB_OUTPUT="+outputs, "TMPDIR="+d.dir)
	for _, name := range []string{"PATH", "HOME", "DOCKER_HOST", "DOCKER_API_VERSION", "DOCKER_CERT_PATH",
		"DOCKER_TLS_VERIFY"} {
		if value, ok := os.LookupEnv(name); ok {
			command.Env = append(command.Env, name+"="+value)
		}
	}
	pipe, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	command.Stderr = command.Stdout

	d.sandbox.ResetRequests()
	if err := command.Start(); err != nil {
		return nil, err
	}
	logged := ""
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		d.printf("   | %s\n", shorten(lines.Text()))
		if found := lastLine.FindStringSubmatch(lines.Text()); found != nil {
			logged = found[1]
		}
	}
	if err := command.Wait(); err != nil {
		return nil, fmt.Errorf("the action failed, its log says why: %w", err)
	}
	o := &outcome{
		requests: len(d.sandbox.Requests()), sent: d.sandbox.SentBytes(), logged: logged,
		revisions: d.sandbox.Revisions(charm, s.resource),
	}
	if o.outputs, err = program.Outputs(outputs); err != nil {
		return nil, err
	}
	d.printf("   =>")
	for _, name := range []string{"revision", "revision-created", "uploaded", "remote-digest"} {
		if value := o.outputs[name]; value != "" {
			d.printf(" %s=%s", name, shorten(value))
		}
	}
	d.printf("\n")
	return o, nil
}

// lastLine is the end of the action's log.
var lastLine = regexp.MustCompile(`Done in .*, (.*) sent`)

var longDigest = regexp.MustCompile(`(sha256:[0-9a-f]{12})[0-9a-f]{52}`)

// shorten leaves the first 12 digits of each digest, so that lines fit.
func shorten(text string) string { return longDigest.ReplaceAllString(text, "$1…") }

// seconds formats a duration in seconds, with two decimals.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
