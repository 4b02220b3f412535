package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Verbosity levels, criu's numbers.
const (
	verbosityError = 1 + iota
	verbosityWarn
	verbosityInfo
	verbosityDebug
)

// logHandler writes records in criu's line form, which runc, LXC and Incus
// search for the words "Error" and "Warn":
//
//	(00.012345) Error (dump: regular.go): message key=value: reason
//	(00.012345) Warn  (dump: regular.go): message
//	(00.012345) message
//
// The time is since the start; it stands there from verbosity 3 on. The stage
// comes from the attribute "stage", the reason from "err". Control characters
// are escaped: names of files and processes come from strangers.
type logHandler struct {
	out       *lockedWriter
	start     time.Time
	verbosity int
	stage     string
	prefix    string // names of the open groups, each with a dot
	attrs     string // attributes of With, already written out
}

// lockedWriter makes one write of each line: criu's log may be shared.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// newLogger returns a logger in criu's line form.
func newLogger(w io.Writer, verbosity int, start time.Time) *slog.Logger {
	return slog.New(&logHandler{out: &lockedWriter{w: patient(w)}, start: start, verbosity: verbosity})
}

// flush writes what a reader has not had the time for. Before it may wait for that, it
// calls a function.
func flush(log *slog.Logger, before func() os.Signal) {
	h, ok := log.Handler().(*logHandler)
	if !ok {
		return
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	if l, ok := h.out.w.(*lateLog); ok && (len(l.kept) > 0 || l.lost > 0) {
		before()
		l.end()
	}
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return verbosityOf(level) <= h.verbosity
}

// verbosityOf gives the verbosity from which on a level is printed.
func verbosityOf(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return verbosityError
	case level >= slog.LevelWarn:
		return verbosityWarn
	case level >= slog.LevelInfo:
		return verbosityInfo
	}
	return verbosityDebug
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	line := make([]byte, 0, 256)
	if h.verbosity >= verbosityInfo {
		line = appendTime(line, r.Time.Sub(h.start))
	}
	line = h.appendHead(line, r)
	line = appendClean(line, r.Message)
	line = append(line, h.attrs...)
	reason := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" && h.prefix == "" {
			reason = joined(a.Value.Resolve().String())
			return true
		}
		line = appendAttr(line, h.prefix, a)
		return true
	})
	if reason != "" {
		line = append(line, ": "...)
		line = appendClean(line, reason)
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := h.out.w.Write(append(line, '\n'))
	return err
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	line := []byte(h.attrs)
	for _, a := range attrs {
		if a.Key == "stage" && h.prefix == "" {
			c.stage = a.Value.Resolve().String()
			continue
		}
		line = appendAttr(line, h.prefix, a)
	}
	c.attrs = string(line)
	return &c
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += name + "."
	return &c
}

// timeWidth is the width of criu's time stamp without the closing bracket.
const timeWidth = 10

// appendTime writes "(SS.MMMMMM) "; as in criu the width stays the same from
// 100 s on, at the cost of digits.
func appendTime(line []byte, d time.Duration) []byte {
	d = max(d, 0)
	s := fmt.Sprintf("(%02d.%06d", d/time.Second, d%time.Second/time.Microsecond)
	return append(append(line, s[:timeWidth]...), ") "...)
}

// appendHead writes the word for errors and warnings and where they come from.
func (h *logHandler) appendHead(line []byte, r slog.Record) []byte {
	switch {
	case r.Level >= slog.LevelError:
		line = append(line, "Error ("...)
	case r.Level >= slog.LevelWarn:
		line = append(line, "Warn  ("...)
	default:
		return line
	}
	file := sourceFile(r.PC)
	line = append(line, h.stage...)
	if h.stage != "" && file != "" {
		line = append(line, ": "...)
	}
	line = append(line, file...)
	return append(line, "): "...)
}

// sourceFile names the file of a program counter, without its folder.
func sourceFile(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	if frame.File == "" {
		return ""
	}
	return path.Base(frame.File)
}

// appendAttr writes " key=value", for a group one for each member.
func appendAttr(line []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			line = appendAttr(line, prefix, member)
		}
		return line
	}
	if a.Key == "" {
		return line
	}
	line = append(line, ' ')
	line = appendClean(line, prefix+a.Key)
	line = append(line, '=')
	s := v.String()
	if s == "" || strings.ContainsFunc(s, needsQuotes) {
		return strconv.AppendQuote(line, s)
	}
	return append(line, s...)
}

// needsQuotes reports whether a value with this character would be misread.
func needsQuotes(r rune) bool {
	return r == ' ' || r == '"' || r == '=' || !unicode.IsPrint(r)
}

// appendClean writes text with everything that is not printable escaped, so
// that nothing can forge a line or steer a terminal.
func appendClean(line []byte, s string) []byte {
	for _, r := range s {
		if unicode.IsPrint(r) {
			line = append(line, string(r)...)
			continue
		}
		quoted := strconv.QuoteRune(r)
		line = append(line, quoted[1:len(quoted)-1]...)
	}
	return line
}
