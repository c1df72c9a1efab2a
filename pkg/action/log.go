package action

import (
	"fmt"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Logger returns a logger that prints through the runner. Info lines are plain, warnings and errors are annotations,
// and debug lines are shown when the job was started with debug logging (outside Actions: when RUNNER_DEBUG is 1).
// Fields follow the message as key=value.
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

// Write prints entry. It never fails: a log that can't be written can't say so.
func (c core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	text := entry.Message
	if entry.LoggerName != "" {
		text = entry.LoggerName + ": " + text
	}
	for _, field := range c.all(fields) {
		if field.Type != zapcore.SkipType { // as zap.Error returns it for a nil error
			text += render(field)
		}
	}
	c.runner.log(entry.Level, text)
	return nil
}

// Sync has nothing to do: nothing is held back.
func (c core) Sync() error { return nil }

// all returns the fields of the core, then those given.
func (c core) all(fields []zapcore.Field) []zapcore.Field {
	return append(c.fields[:len(c.fields):len(c.fields)], fields...)
}

// log prints an entry: as a plain line, or as the annotation of its level.
func (r *Runner) log(level zapcore.Level, text string) {
	command, prefix := "error", "Error: "
	switch {
	case level == zapcore.InfoLevel:
		r.say(text)
		return
	case level < zapcore.InfoLevel:
		command, prefix = "debug", "Debug: "
	case level == zapcore.WarnLevel:
		command, prefix = "warning", "Warning: "
	}
	if r.actions {
		r.command(command, "", text)
	} else {
		r.say(prefix + text)
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
