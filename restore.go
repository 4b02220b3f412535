package glis

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/restore"
	"glis.dev/glis/options"
)

// RestoreOptions says what is restored and how. Fields without a comment are
// the options of criu's by that name.
type RestoreOptions struct {
	ImagesDir string

	LeaveStopped   bool // leave the tree stopped by SIGSTOP
	Sibling        bool // child of this program's parent instead of its own
	ShellJob       bool
	TCPEstablished bool
	FileLocks      bool

	// Set, if not nil, changes any other option; see [options.Restore].
	Set func(*options.Restore)

	Log      *slog.Logger // nil: no log
	Observer Observer     // may be nil
}

// Restored is a tree that runs again.
type Restored struct {
	PID int // of its root
}

// Restore makes the tree of a checkpoint run again. If it fails, or ctx ends
// before the tree is whole, nothing of it stays, and it can be tried again.
//
// A root that wants a signal when its parent ends (PR_SET_PDEATHSIG), or a thread of which does,
// has a thread of this program as its parent, which stays as long as the program does.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) {
	store, err := openImages(o.ImagesDir)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	s := options.NewRestore()
	s.ImagesDir = o.ImagesDir
	s.LeaveStopped, s.Sibling, s.ShellJob = o.LeaveStopped, o.Sibling, o.ShellJob
	s.TCPEstablished, s.FileLocks = o.TCPEstablished, o.FileLocks
	if o.Set != nil {
		o.Set(s)
	}
	if err := options.Resolve(s); err != nil {
		return nil, err
	}
	done, err := restore.Run(ctx, s, store, logger(o.Log), observers(o.Observer))
	if err != nil {
		return nil, err
	}
	return &Restored{PID: done.PID}, nil
}

// Wait waits until the root of the tree has ended. It must be a child of this
// program, as it is without Sibling, and without options.Restore.Detach.
func (r *Restored) Wait() (syscall.WaitStatus, error) {
	for {
		var ws syscall.WaitStatus
		_, err := syscall.Wait4(r.PID, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", r.PID, err)
		default:
			return ws, nil
		}
	}
}

// Lock holds back the packets of the connections of a checkpoint, until it is
// restored or [Unlock] is called: for a host that is about to have their
// address. What comes to its UDP ports is dropped while nobody is there. It returns
// how many connections and ports those are. Sockets that the restore will move to
// another address (options.Restore.RemapAddr) are locked there.
func Lock(dir string, moves ...options.RemapAddr) (int, error) {
	return withImages(dir, func(s image.Store) (int, error) { return restore.Lock(s, moves) })
}

// Unlock lets through what [Dump] or [Lock] holds back. It is no error if
// nothing is held.
func Unlock(dir string, moves ...options.RemapAddr) (int, error) {
	return withImages(dir, func(s image.Store) (int, error) { return restore.Unlock(s, moves) })
}

func withImages(dir string, act func(image.Store) (int, error)) (int, error) {
	store, err := openImages(dir)
	if err != nil {
		return 0, err
	}
	defer store.Close()
	return act(store)
}
