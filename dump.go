package glis

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/dump"
	"glis.dev/glis/options"
)

// DumpOptions says what is dumped, where to and how. Fields without a comment
// are the options of criu's by that name.
type DumpOptions struct {
	PID       int    // root of the tree, as this program's PID namespace has it
	ImagesDir string // an existing directory that holds no checkpoint

	LeaveRunning   bool // go on afterwards, instead of ending
	LeaveStopped   bool // stay stopped by SIGSTOP afterwards
	ShellJob       bool
	TCPEstablished bool
	FileLocks      bool
	LinkRemap      bool

	// Timeout bounds the time that the tree is frozen; 0: as without the option.
	Timeout time.Duration
	// Set, if not nil, changes any other option; see [options.Dump].
	Set func(*options.Dump)

	Log      *slog.Logger // nil: no log
	Observer Observer     // may be nil
}

// DumpStats are the figures of a dump.
type DumpStats struct {
	Freezing time.Duration // until all tasks had stopped
	Frozen   time.Duration // from the first stop until they ran again, or all was copied
	Memory   time.Duration // of that, for copying memory
	Pages    uint64        // of 4 KiB, written
}

// Dump saves the tree and ends it, unless told to leave it. If it fails, or ctx
// ends before the checkpoint is complete, the tree runs on with all its
// connections, and nothing stays in the directory. An error that
// [errors.Is] [ErrUnsupported] names a state that can't be saved.
func Dump(ctx context.Context, o DumpOptions) (DumpStats, error) {
	store, err := openImages(o.ImagesDir)
	if err != nil {
		return DumpStats{}, err
	}
	defer store.Close()
	settings, err := o.settings()
	if err != nil {
		return DumpStats{}, err
	}
	s, err := dump.Run(ctx, settings, store, logger(o.Log), observers(o.Observer))
	us := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	return DumpStats{Freezing: us(s.GetFreezingTime()), Frozen: us(s.GetFrozenTime()), Memory: us(s.GetMemdumpTime()), Pages: s.GetPagesWritten()}, err
}

func (o *DumpOptions) settings() (*options.Dump, error) {
	if o.PID <= 0 {
		return nil, errors.New("DumpOptions.PID: name the root of the tree")
	}
	s := options.NewDump()
	s.Tree, s.ImagesDir = o.PID, o.ImagesDir
	s.LeaveRunning, s.LeaveStopped, s.ShellJob = o.LeaveRunning, o.LeaveStopped, o.ShellJob
	s.TCPEstablished, s.FileLocks, s.LinkRemap = o.TCPEstablished, o.FileLocks, o.LinkRemap
	if o.Timeout != 0 {
		s.Timeout, s.TimeoutGiven = o.Timeout, true
	}
	if o.Set != nil {
		o.Set(s)
	}
	return s, options.Resolve(s)
}

// openImages opens a directory of images.
func openImages(dir string) (*image.Dir, error) {
	if dir == "" {
		return nil, errors.New("ImagesDir: name the directory of the images")
	}
	return image.OpenDir(dir)
}
