// Package glis saves running process trees and brings them back: same PIDs,
// same memory, same files, and every connection as both of its ends knew it.
//
//	func main() {
//		glis.Init() // first thing: see there
//		…
//		stats, err := glis.Dump(ctx, glis.DumpOptions{PID: pid, ImagesDir: dir, TCPEstablished: true})
//		…
//		tree, err := glis.Restore(ctx, glis.RestoreOptions{ImagesDir: dir, TCPEstablished: true})
//		…
//		status, err := tree.Wait()
//	}
//
// Images and settings mean what they mean to criu(8): package
// [glis.dev/glis/options] has all of the latter, package
// [glis.dev/glis/image] reads the former. It needs Linux 6.1 on amd64, and
// CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE and CAP_NET_ADMIN; root
// has them.
//
// Nothing is global: any number of trees may be dumped and restored at the
// same time. But wait4(2) tells a parent of the stops of its own traced
// children, too, so while a child of this very program is dumped or restored
// nobody may wait for it (as [os.Process.Wait] and [os/exec.Cmd.Wait] do), nor
// for any child.
package glis

import (
	"log/slog"

	"glis.dev/glis/internal/dump"
	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/kind"
)

// Init must be called first thing in main by every program that dumps or
// restores. Glis starts the program again as the guardian of each dump and
// restore: a process that takes everything back, or brings it to its end,
// should the program be killed. In such a process Init does not return.
func Init() { guardian.Main(guardian.Hooks{Discard: dump.Discard}) }

// ErrUnsupported says that a tree is in a state that can't be carried over. The
// error names task, descriptor, state and what can be done; the tree is
// unharmed.
var ErrUnsupported = kind.ErrUnsupported

// ErrNotInitialized says that the program does not call [Init].
var ErrNotInitialized = guardian.ErrNotReady

// Observer is told of progress, and at some points asked whether to go on. Its
// methods are called from one goroutine at a time; they keep frozen what is
// frozen, so they had better be quick.
type Observer = event.Observer

// Point is a moment of a dump or restore, by the name that criu's action
// scripts know it by.
type Point = event.Point

// The points that an [Observer] is notified of.
const (
	PreDump     = event.PreDump     // nothing is touched yet
	PostDump    = event.PostDump    // all is written, the tree is still frozen: an error lets it run on
	PreRestore  = event.PreRestore  // no process exists yet
	PostRestore = event.PostRestore // the tree is whole, and frozen: an error ends it
	PreResume   = event.PreResume   // it is to live in any case; its packets come through
	PostResume  = event.PostResume  // its tasks run
)

// logger returns what to log to; nil is nowhere.
func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// observers are those that are there.
func observers(o Observer) event.All {
	if o == nil {
		return nil
	}
	return event.All{o}
}
