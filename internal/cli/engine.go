package cli

import (
	"context"
	"io"
	"log/slog"

	"glis.dev/glis/internal/event"
	"glis.dev/glis/options"
)

// Engine does the work of the verbs. The command line checks options, opens
// the log and looks at privileges; paths in the options are absolute.
//
// An error is reported to the user as it is, so it says what, where and what
// now. An engine whose context ends before the point of no return takes back
// what it did and returns an error.
type Engine interface {
	Dump(ctx context.Context, o *options.Dump, log *slog.Logger, obs event.All) (DumpStats, error)
	// Restore returns once the processes run. It writes the PID file, as only
	// it knows when a failure may still take the processes back.
	Restore(ctx context.Context, o *options.Restore, log *slog.Logger, obs event.All) (*Restored, error)
	Check(ctx context.Context, o *options.Check, log *slog.Logger) (CheckReport, error)
	// Inspect describes the images to w.
	Inspect(ctx context.Context, o *options.Inspect, w io.Writer, log *slog.Logger) error
	// Lock and Unlock hold back, and let through, the packets of a
	// checkpoint's connections, and what comes to its UDP ports. They return how
	// many those are.
	Lock(ctx context.Context, o *options.Lock, log *slog.Logger) (int, error)
	Unlock(ctx context.Context, o *options.Lock, log *slog.Logger) (int, error)
	// Verify compares the images with their checksums. It writes a line to w
	// for each file that is not as it was, which is an error, too.
	Verify(ctx context.Context, o *options.Verify, w io.Writer, log *slog.Logger) error
	// Demo shows a dump and restore and describes it to w.
	Demo(ctx context.Context, o *options.Demo, w io.Writer) error
}

// Restored is a tree that runs again.
type Restored struct {
	Stats RestoreStats
	// Wait returns when the root process has ended, with its exit status, or
	// 128 and the signal that killed it. It is called if the options say that
	// the restore waits.
	Wait func() (status int, err error)
}

// CheckReport is what a check found to be missing, each with its reason.
type CheckReport struct {
	Required []string // without these there is no dump or restore
	Optional []string // without these some processes cannot be dumped
}

// DumpStats are the figures of a dump, the same as in its statistics image.
// Times are in microseconds.
type DumpStats struct {
	FreezingTime, FrozenTime, MemdumpTime, MemwriteTime       uint32
	PagesScanned, PagesSkippedParent, PagesWritten, PagesLazy uint64
}

// RestoreStats are the figures of a restore. Times are in microseconds.
type RestoreStats struct {
	PagesCompared, PagesSkippedCow, PagesRestored uint64
	ForkingTime, RestoreTime                      uint32
}
