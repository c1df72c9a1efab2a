// Command contact finds out what this project can only assume without an account: how Charmhub and its registry behave.
//
//	CHARMCRAFT_AUTH=$(cat token.txt) go run ./e2e/contact -charm my-charm
//
// It says what it will leave behind, and asks. Then it tries one assumption after the other and prints a line for each:
// whether it held, or why it couldn't be tried. At the end, or when it is interrupted, a folder has a report, with what
// the action does about each assumption that doesn't hold, and the requests and answers without any secret.
//
// It releases to the branch latest/edge/contact-DATE alone, and only if the charm has a revision. With -again DATE it
// only compares the text about an image with that of an earlier run.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/charmhub-actions/upload-resource/e2e/contact/traffic"
	"github.com/charmhub-actions/upload-resource/e2e/program"
	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

func main() {
	program.Main("contact", func(ctx context.Context, args []string, out io.Writer) error {
		now := time.Now().UTC()
		c := command{
			getenv: os.Getenv, in: os.Stdin, out: out, date: now.Format(time.DateOnly), seed: now.Format("20060102150405.000"),
			wait: transport.Sleep,
		}
		return c.run(ctx, args)
	})
}

// command is one run, and what differs between a person's and a test's.
type command struct {
	getenv func(string) string
	in     io.Reader
	out    io.Writer
	date   string // of the branch and the folder
	seed   string // makes images and files that nobody else has
	wait   func(context.Context, time.Duration) error
	wire   http.RoundTripper // nil for the network

	charm, again, folder string
	yes                  bool
}

// asked is the question before anything is changed.
const asked = "Go on? [y/N] "

// run does it all. Interrupted, it writes what it has found out so far.
func (c command) run(ctx context.Context, args []string) error {
	if err := c.parse(args); err != nil {
		return err
	}
	contact, err := c.prepare()
	if err != nil {
		return err
	}
	lines := assumptions()
	if c.again != "" {
		earlier, err := readMemory(memoryPath(c.charm, c.again))
		if err != nil {
			return err
		}
		contact.earlier = earlier
		lines = comparison()
	}
	_, _ = fmt.Fprint(c.out, contact.leaves())
	if !c.yes && !c.agreed(ctx) {
		return errors.New("nothing was done")
	}
	tried := contact.tryAll(ctx, lines)
	if err := contact.write(c.folder, tried); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.out, "%s; the report is %s/report.md\n", count(tried), c.folder)
	return ctx.Err()
}

// parse reads the flags. The error says which one is missing or wrong.
func (c *command) parse(args []string) error {
	flags := flag.NewFlagSet("contact", flag.ContinueOnError)
	flags.SetOutput(c.out)
	flags.StringVar(&c.charm, "charm", "", "name of a charm that the token may change; one to try things on, with a "+
		"revision that declares an image")
	flags.StringVar(&c.again, "again", "", "date of an earlier run, such as 2027-01-31: only compare the text about its "+
		"image with today's")
	flags.StringVar(&c.folder, "folder", "", "folder for the report and the traffic; default contact-CHARM-DATE")
	flags.BoolVar(&c.yes, "yes", false, "don't ask")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := charm.CheckName(c.charm); err != nil || flags.NArg() > 0 {
		return errors.New("give the charm's name on Charmhub, as -charm my-charm")
	}
	if c.folder == "" {
		c.folder = folderOf(c.charm, c.date)
		if c.again != "" {
			c.folder = folderOf(c.charm, c.again+"-again-"+c.date)
		}
	}
	return nil
}

// folderOf returns the default folder of a run's report.
func folderOf(charm, date string) string { return "contact-" + charm + "-" + date }

// prepare reads the credentials and the servers' addresses from the variables that charmcraft reads.
func (c command) prepare() (*contact, error) {
	recorder := &traffic.Recorder{}
	noise := &noise{}
	log := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "M"}), zapcore.Lock(noise),
		zap.InfoLevel))
	variables := func(name string) string {
		if strings.HasPrefix(name, "CHARMCRAFT_") {
			return c.getenv(name)
		}
		return ""
	}
	reader := inputs.Reader{Runner: action.New(variables, io.Discard)}
	at, token := reader.Endpoints(), reader.Token()
	if len(reader.Complaints) > 0 {
		return nil, errors.Join(reader.Complaints...)
	}
	if token == "" {
		return nil, fmt.Errorf("CHARMCRAFT_AUTH is empty; make a token with `%s`, and set the variable to what token.txt "+
			"holds", charmhub.LoginCommand(c.charm, true))
	}
	credentials, err := charmhub.ParseCredentials(token)
	if err != nil {
		return nil, err
	}
	recorder.Hide(credentials.Secrets()...)
	hide := func(secret string) { recorder.Hide(secret) }
	wire := transport.New(hide, log)
	if recorder.Base = c.wire; recorder.Base == nil {
		recorder.Base = wire
	}
	return &contact{
		command: c, recorder: recorder, noise: noise, at: at,
		client: charmhub.New(charmhub.Config{
			StoreURL: at.Store.String(), StorageURL: at.Storage.String(), SSOURL: at.SSO.String(), Credentials: credentials,
			Charm:     c.charm,
			Transport: recorder, Connect: wire.Connect, UserAgent: userAgent, Logger: log, Mask: hide, Releases: true,
		}),
	}, nil
}

// userAgent is how the requests of this program name it.
const userAgent = "upload-resource/contact"

// agreed asks, unless the answer is known.
func (c command) agreed(ctx context.Context) bool {
	_, _ = fmt.Fprint(c.out, asked)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(c.in).ReadString('\n') // no line is no agreement
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false
	case line := <-answer:
		return line == "y" || line == "yes"
	}
}

// noise keeps what the client logs: tries that failed in passing.
type noise struct{ lines []string }

// Write keeps a line of the log.
func (n *noise) Write(line []byte) (int, error) {
	n.lines = append(n.lines, strings.TrimSpace(string(line)))
	return len(line), nil
}

// Sync does nothing, since every line is kept at once.
func (n *noise) Sync() error { return nil }
