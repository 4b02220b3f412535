package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/options"
)

// session is what a verb works with: the log, and a context that ends when
// the user stops the program.
type session struct {
	app    *App
	stage  string
	common *options.Common
	log    *slog.Logger
	file   *os.File // the log file, or nil
	ctx    context.Context
	stop   func() os.Signal // see interruptible
}

// access is what a verb does in the images directory.
type access int

const (
	reads access = iota
	writes
)

// open checks the directories and opens the log: the first line of that is written when
// its reader may be gone already. When it fails it has said so.
func (a *App) open(c *call, common *options.Common, how access) (*session, bool) {
	s := &session{app: a, stage: c.verb.name, common: common}
	s.ctx, s.stop = a.interruptible()
	err := checkDir("images directory", "-D", common.ImagesDir, how)
	if err == nil && common.WorkDir != common.ImagesDir {
		err = checkDir("working directory", "-W", common.WorkDir, reads)
	}
	if err == nil {
		err = s.openLog()
	}
	if err != nil {
		s.say(err)
		return nil, false
	}
	s.logHost()
	return s, true
}

// checkDir looks at a directory before anything is done, as later the same
// mistakes would look like others.
func checkDir(what, option, dir string, how access) error {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s does not exist; make it, or name another one with %s", what, dir, option)
	case err != nil:
		return fmt.Errorf("%s: %w; name another one with %s", what, err, option)
	case !st.IsDir():
		return fmt.Errorf("%s %s is not a directory; name another one with %s", what, dir, option)
	}
	mode, verb := uint32(unix.R_OK|unix.X_OK), "read"
	if how == writes {
		mode, verb = unix.W_OK|unix.X_OK, "write to"
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, mode, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("cannot %s %s %s: %w; name another one with %s", verb, what, dir, err, option)
	}
	return nil
}

// openLog opens the log where the options say. criu empties an old log, too.
func (s *session) openLog() error {
	out := s.app.Stderr
	switch s.common.LogFile {
	case "":
	case "-":
		out = s.app.Stdout
	default:
		f, err := os.OpenFile(s.common.LogFile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("log file: %w; name another one with -o", err)
		}
		s.file, out = f, f
	}
	s.log = newLogger(out, int(s.common.Verbosity), s.app.Start).With("stage", s.stage)
	return nil
}

// logHost begins the log with what criu begins it with.
func (s *session) logHost() {
	if !s.log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	s.log.Info(fmt.Sprintf("Version: %s (glis %s, %s)", criuVersion, glisVersion, runtime.Version()))
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		s.log.Info("Running on an unknown host", "err", err)
		return
	}
	text := unix.ByteSliceToString
	s.log.Info(fmt.Sprintf("Running on %s %s %s %s %s",
		text(u.Nodename[:]), text(u.Sysname[:]), text(u.Release[:]), text(u.Version[:]), text(u.Machine[:])))
}

// stopped adds to an error which signal was the reason.
func stopped(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// fail ends a session with an error: in the log with criu's closing line, and
// if the log is a file also where a person sees it.
func (s *session) fail(err error, closing string) int {
	err = advised(s.stage, err)
	s.logLine(oneLine(err))
	if s.file != nil {
		if closing != "" {
			s.logLine(closing)
		}
		s.say(err)
	}
	s.close()
	return exitError
}

// logLine logs an error whose place in the source says nothing to the reader.
func (s *session) logLine(text string) {
	ctx := context.Background()
	if h := s.log.Handler(); h.Enabled(ctx, slog.LevelError) {
		_ = h.Handle(ctx, slog.NewRecord(time.Now(), slog.LevelError, text, 0))
	}
}

// say writes an error to standard error, unless silence was asked for.
func (s *session) say(err error) {
	if s.common.Verbosity >= verbosityError {
		writeError(s.app.Stderr, s.stage, err)
	}
}

// close ends a session.
func (s *session) close() {
	flush(s.log, s.stop) // all is done: a signal may end that
	if s.file != nil {
		_ = s.file.Close()
	}
}
