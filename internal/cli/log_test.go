package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// record logs one record whose place in the source is this file, or unknown.
func record(l *slog.Logger, at time.Time, level slog.Level, msg string, args ...any) {
	r := slog.NewRecord(at, level, msg, 0)
	r.Add(args...)
	if l.Enabled(context.Background(), level) {
		_ = l.Handler().Handle(context.Background(), r)
	}
}

func TestLogForm(t *testing.T) {
	start := time.Unix(1000, 0)
	var out bytes.Buffer
	l := newLogger(&out, 4, start).With("stage", "dump")
	after := func(d time.Duration) time.Time { return start.Add(d) }
	record(l, after(12345*time.Microsecond), slog.LevelError, "cannot read", "pid", 7, "err", errors.New("no such file"))
	record(l, after(time.Second), slog.LevelWarn, "odd", "path", "/a b")
	record(l, after(99*time.Second+999999*time.Microsecond), slog.LevelInfo, "said", "n", 1)
	record(l, after(123*time.Second+456789*time.Microsecond), slog.LevelDebug, "late")
	record(l, after(-time.Second), slog.LevelInfo, "before the start")
	record(l.With("pid", 3).WithGroup("fd").With("n", 2), after(0), slog.LevelInfo, "grouped", "k", "v", slog.Group("g", "x", ""))
	record(l, after(0), slog.LevelInfo, "one\n(00.000000) Error two\x1b[2J", "comm", "a\nb", "name", "é")
	record(l, after(0), slog.LevelWarn, "two", "err", errors.Join(errors.New("one"), errors.New("other\a")))
	record(newLogger(&out, 3, start), after(0), slog.LevelError, "no stage")
	want := strings.Join([]string{
		`(00.012345) Error (dump): cannot read pid=7: no such file`,
		`(01.000000) Warn  (dump): odd path="/a b"`,
		`(99.999999) said n=1`,
		`(123.45678) late`,
		`(00.000000) before the start`,
		`(00.000000) grouped pid=3 fd.n=2 fd.k=v fd.g.x=""`,
		`(00.000000) one\n(00.000000) Error two\x1b[2J comm="a\nb" name=é`,
		`(00.000000) Warn  (dump): two: one; other\a`,
		`(00.000000) Error (): no stage`,
		``,
	}, "\n")
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// TestLogLevels: what stands in the log at which verbosity, and from when on
// lines have a time.
func TestLogLevels(t *testing.T) {
	for verbosity, want := range []string{
		"",
		"Error (): e\n",
		"Error (): e\nWarn  (): w\n",
		"(00.000000) Error (): e\n(00.000000) Warn  (): w\n(00.000000) i\n",
		"(00.000000) Error (): e\n(00.000000) Warn  (): w\n(00.000000) i\n(00.000000) d\n",
	} {
		var out bytes.Buffer
		now := time.Now()
		l := newLogger(&out, verbosity, now)
		record(l, now, slog.LevelError, "e")
		record(l, now, slog.LevelWarn, "w")
		record(l, now, slog.LevelInfo, "i")
		record(l, now, slog.LevelDebug, "d")
		if out.String() != want {
			t.Errorf("-v%d: got\n%swant\n%s", verbosity, out.String(), want)
		}
	}
}

// TestLogNamesFile: an error says in which file it was noticed.
func TestLogNamesFile(t *testing.T) {
	var out bytes.Buffer
	newLogger(&out, 2, time.Now()).With("stage", "dump").Error("message", "key", "value")
	if want := "Error (dump: log_test.go): message key=value\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
