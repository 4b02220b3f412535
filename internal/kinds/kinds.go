// Package kinds is the list of all kinds: the only place that names them all.
package kinds

import (
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/inet"
	"glis.dev/glis/internal/kind/socket/lone"
	"glis.dev/glis/internal/kind/socket/netlink"
	"glis.dev/glis/internal/kind/socket/packet"
	"glis.dev/glis/internal/kind/socket/tun"
	"glis.dev/glis/internal/kind/socket/unix"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Set is the kinds of one dump or restore. Kinds may keep what they learnt in
// themselves, so a Set is not shared.
type Set struct {
	Files   []kind.File  // in order of matching; the last one matches all
	Process []kind.Facet // of a process
	Thread  []kind.Facet // of each thread, in order of restore
	// The process's facets come back in two parts: Early before other threads
	// exist, the rest with the leader's own when those are done.
	Early  []kind.Facet
	Leader []kind.Facet
	locks  *file.Locks
}

// New returns the kinds for one dump or restore.
func New() *Set {
	locks := &file.Locks{}
	regular := &file.Regular{Locks: locks}
	files := append([]kind.File{unix.New(), inet.New(), netlink.New(), packet.New(), lone.New(), tun.New()}, socket.Others()...)
	return &Set{
		Files: append(files,
			file.PathOnly{},
			&file.Pipe{},
			&file.Fifo{},
			&file.Eventfd{},
			&file.Epoll{},
			&file.Timerfd{},
			&file.Signalfd{},
			&file.Pidfd{},
			&file.Inotify{Regular: regular},
			&file.Fanotify{},
			&file.TTY{},
			&file.Memfd{},
			file.NSFile{},
			file.Mqueue{Regular: regular},
			regular,
			&file.Unknown{},
		),
		Process: append(task.ProcessFacets(), locks),
		Thread:  task.ThreadFacets(),
		Early:   task.BeforeThreads(),
		Leader:  append([]kind.Facet{locks}, task.LeaderFacets()...),
		locks:   locks,
	}
}

// All returns the facets of a process's leader: the process's, then its own.
func (s *Set) All() []kind.Facet {
	return append(append([]kind.Facet{}, s.Process...), s.Thread...)
}

// DumpLocks writes down the locks on a file of any kind.
func (s *Set) DumpLocks(env *kind.DumpEnv, f *scan.File) error { return s.locks.DumpFile(env, f) }

// PlanLocks makes sure that the files are there which locks are of that no process takes, and
// finds whom leases tell.
func (s *Set) PlanLocks(p *plan.Plan) error { return s.locks.Complete(p) }

// TakeLocks takes the locks of a new file that no process takes.
func (s *Set) TakeLocks(id plan.ID, own *fd.FD) error { return s.locks.TakeQueued(id, own) }

// FixRseq moves a thread that was stopped inside a restartable sequence to
// where the kernel would have sent it.
func (s *Set) FixRseq(th *scan.Thread) error { return task.FixRseq(th) }

// Thaw makes a thread that goes on enter again the system call that it left
// only because it was stopped.
func (s *Set) Thaw(th *scan.Thread) { task.Thaw(th, task.Deliverable(th)) }
