package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// lateLog is a log whose reader may take its time: what doesn't fit into a pipe or terminal
// now is kept until it does. Else a tree would stand still until somebody reads on.
type lateLog struct {
	f    *os.File
	kept []byte
	lost int // lines that were too many to be kept
}

const (
	mostKept = 1 << 20
	onePiece = 4096 // that a pipe takes at once if it takes anything: PIPE_BUF
)

// patient returns what to write a log to. A file on a disk has no reader.
func patient(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return w
	}
	if st, err := f.Stat(); err != nil || st.Mode().IsRegular() {
		return w
	}
	return &lateLog{f: f}
}

// Write implements io.Writer.
func (l *lateLog) Write(line []byte) (int, error) {
	if len(l.kept)+len(line) > mostKept {
		l.lost += bytes.Count(line, []byte("\n"))
		return len(line), l.some()
	}
	if len(l.kept) == 0 && len(line) <= onePiece && l.room() {
		return l.f.Write(line)
	}
	l.kept = append(l.kept, line...)
	return len(line), l.some()
}

// room tells whether a piece can be written now, or fails at once.
func (l *lateLog) room() bool {
	p := []unix.PollFd{{Fd: int32(l.f.Fd()), Events: unix.POLLOUT}}
	n, err := linux.PollNow(p)
	return err != nil || n > 0
}

// some writes what can be written now.
func (l *lateLog) some() error {
	for len(l.kept) > 0 && l.room() {
		n, err := l.f.Write(l.kept[:min(len(l.kept), onePiece)])
		if err != nil {
			l.kept = nil // as a line that can't be written
			return err
		}
		l.kept = l.kept[n:]
	}
	return nil
}

// end writes the rest, however long that takes: nobody waits for it any more.
func (l *lateLog) end() {
	if l.lost > 0 {
		l.kept = fmt.Appendf(l.kept, "Warn  (log): %d lines are missing here, as nobody read what was before them\n", l.lost)
		l.lost = 0
	}
	_, _ = l.f.Write(l.kept)
	l.kept = nil
}
