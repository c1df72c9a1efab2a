package action

import (
	"fmt"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// titleField is the key of the field that becomes an annotation's title.
const titleField = "title"

// Logger returns a logger that prints through the runner. Info lines are plain,
// warnings and errors are annotations, with the string field "title" as their
// title, and debug lines are shown when the job was started with debug logging
// (outside Actions: when RUNNER_DEBUG is 1). Other fields follow the message as
// key=value.
func (r *Runner) Logger() *zap.Logger {
	level := zapcore.InfoLevel
	if r.actions || r.debug { // a runner drops debug lines by itself
		level = zapcore.DebugLevel
	}
	return zap.New(core{LevelEnabler: level, runner: r})
}

// core is a zapcore.Core that prints entries as workflow commands and lines.
type core struct {
	zapcore.LevelEnabler
	runner *Runner
	fields []zapcore.Field
}

// With returns a core that adds fields to each entry.
func (c core) With(fields []zapcore.Field) zapcore.Core {
	c.fields = c.all(fields)
	return c
}

// Check adds the core to those that take entry, if its level is wanted.
func (c core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write prints entry. It never fails: a log that can't be written leaves nobody
// to tell.
func (c core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	text, title := entry.Message, ""
	if entry.LoggerName != "" {
		text = entry.LoggerName + ": " + text
	}
	for _, field := range c.all(fields) {
		if field.Type == zapcore.SkipType { // what zap.Error makes of no error
			continue
		}
		if field.Key == titleField && field.Type == zapcore.StringType {
			title = field.String
			continue
		}
		text += render(field)
	}
	c.runner.log(entry.Level, title, text)
	return nil
}

// Sync has nothing to do: nothing is held back.
func (c core) Sync() error { return nil }

func (c core) all(fields []zapcore.Field) []zapcore.Field {
	return append(c.fields[:len(c.fields):len(c.fields)], fields...)
}

// log prints an entry in the way of its level.
func (r *Runner) log(level zapcore.Level, title, text string) {
	name, prefix := kind(level)
	switch {
	case name == "":
		r.say(text)
	case r.actions:
		r.command(name, title, text)
	case title != "":
		r.say(prefix + title + ": " + text)
	default:
		r.say(prefix + text)
	}
}

// kind returns the workflow command for a level, none for info, and what takes
// its place outside Actions.
func kind(level zapcore.Level) (command, prefix string) {
	switch {
	case level < zapcore.InfoLevel:
		return "debug", "Debug: "
	case level == zapcore.InfoLevel:
		return "", ""
	case level == zapcore.WarnLevel:
		return "warning", "Warning: "
	default:
		return "error", "Error: "
	}
}

// render returns field as " key=value", the value quoted unless it is one word.
func render(field zapcore.Field) string {
	encoder := zapcore.NewMapObjectEncoder()
	field.AddTo(encoder)
	value := fmt.Sprint(encoder.Fields[field.Key])
	if value == "" || strings.ContainsAny(value, " \t\r\n\"=") {
		value = strconv.Quote(value)
	}
	return " " + field.Key + "=" + value
}
