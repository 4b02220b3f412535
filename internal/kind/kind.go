// Package kind is the contract between the order of work (dump, restore) and
// the kinds of things a process holds. A kind says how its thing is read from
// a frozen task and how it is made again; when that happens is not its
// business.
package kind

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/options"
)

// ErrUnsupported marks a state that Glis can't carry over. Whoever returns it
// names the state, why, and what the user can do.
var ErrUnsupported = errors.New("not supported")

// Unsupported is an error for a state that can't be carried over: it reads
// "WHAT: not supported: WHY".
func Unsupported(what any, why string, args ...any) error {
	return fmt.Errorf("%v: %w: %s", what, ErrUnsupported, fmt.Sprintf(why, args...))
}

// WithoutRings is what to do about io_uring, which a library may bring in without a word.
const WithoutRings = "start the program without (mariadb: innodb_use_native_aio=0, node and libuv: UV_USE_IO_URING=0, postgres: io_method=worker, qemu: aio=threads)"

// About says what an error is about, unless it says so itself: "WHAT: err".
func About(what any, err error) error {
	if err == nil {
		return nil
	}
	name, text := fmt.Sprint(what), err.Error()
	short, _, _ := strings.Cut(name, " (") // instruments know a task by its number
	if strings.HasPrefix(text, name) || strings.HasPrefix(text, short+":") {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// DumpEnv is what a kind has at hand while it reads a frozen tree.
type DumpEnv struct {
	Log     *slog.Logger
	Options *options.Dump
	Tree    *scan.Tree
	Images  Sink
	Files   Files
	Guard   Guard
	Buffer  []byte          // for copying memory, see pages.Buffer; may be nil
	Pages   image.WriteFile // the first pages file, see mem.Early; may be nil
	// Hold holds back the packets of further flows, as if Flows had returned
	// them.
	Hold func([]netlock.Flow) error
	// Away tells what is to be dropped while the tree is away: from when it is
	// killed until it is restored. May be nil.
	Away func(netlock.Flow)
	// Shut has who begins to connect to listeners, of which it is told the ports, try
	// again: from now until the tree is dead. Nil if it isn't to be killed.
	Shut func(listeners []netlock.Flow) error
	// Ended fails if the tree must not stand still any longer, see Check. May be
	// nil.
	Ended func() error
	// Lone asks all Loners for a file; why says why there is none, and is empty if it is of
	// none's kind. May be nil.
	Lone func(m *sockmem.Memory, x *sockmem.Lone) (own *fd.FD, why string, err error)
	// Discover has all files be known that are only in others, which may make Tree.Files
	// grow. May be nil.
	Discover func() error
	// Undo adds a step that takes back what was done outside of the images;
	// it runs if the dump fails.
	Undo func(what string, f func() error)
	// Now tells what a clock (CLOCK_*) shows in the tree's time namespace, in
	// ns.
	Now func(clock int32) (uint64, error)
}

// Check returns why the tree must not stand still any longer, if that is so.
// Whatever goes over all files of a tree at once asks for it now and then.
func (e *DumpEnv) Check() error {
	if e.Ended == nil {
		return nil
	}
	return e.Ended()
}

// Guard remembers, where it outlives the engine, what is to be done to sockets
// of the target. A kind that changes an option of a frozen task's socket and
// changes it back says so before, in case the engine is killed in between.
type Guard interface {
	// Back has these options set, in this order, if the engine dies before
	// the tree runs again and before the commit of the dump. A failure of the
	// engine that it lives to see is the kind's own to mend.
	Back(f *scan.File, opts ...linux.SockOpt) error
	// BackAll is Back for each of many files.
	BackAll(all []*scan.File, opts ...linux.SockOpt) error
	// Leave has these options set when the dump is committed, right before
	// the tree is killed: by the engine, or whoever finishes its work. Should
	// that fail, back undoes it, as if given to Back.
	Leave(f *scan.File, opt linux.SockOpt, back ...linux.SockOpt) error
	// Name has a name that a file (a device and inode) is about to get taken
	// away again if the engine dies before the commit. See Undo for its other
	// failures.
	Name(path string, dev, ino uint64) error
}

// Sink takes image entries. Entries may be kept in memory until the tree runs
// again: don't change a message after Put.
type Sink interface {
	// Put appends an entry, with the raw payload that follows it (nil if
	// none), to the image file of this row and these ids, in order of calls.
	Put(row *image.Row, m proto.Message, payload []byte, ids ...uint32) error
}

// Packer is a Sink that encodes at once, so that the message may be used again: for
// those that there are very many of.
type Packer interface {
	// PutNow is Put; the payload is kept, as by Put.
	PutNow(row *image.Row, m proto.Message, payload []byte, ids ...uint32) error
}

// Spiller is a Sink that can write what it has, so that memory of payloads may be used again.
type Spiller interface{ Spill() error }

// Completer is a Sink that wants to know which images, of which there may be thousands with
// several entries each, get no more.
type Completer interface {
	Complete(row *image.Row, ids ...uint32) error
}

// Complete tells a sink that an image gets no more entries.
func Complete(s Sink, row *image.Row, ids ...uint32) error {
	if c, ok := s.(Completer); ok {
		return c.Complete(row, ids...)
	}
	return nil
}

// PutNow is Put for a message that is to be used again.
func PutNow(s Sink, row *image.Row, m proto.Message, payload []byte, ids ...uint32) error {
	if p, ok := s.(Packer); ok {
		return p.PutNow(row, m, payload, ids...)
	}
	e, err := proto.Encode(m)
	if err != nil {
		return err
	}
	return s.Put(row, e, payload, ids...)
}

// Reuser is a kind of files that may return an entry from Dump which is valid only
// until it dumps the next one, or which takes so much memory that it is better encoded.
type Reuser interface {
	// Reused tells whether the entry is such a one.
	Reused(e *fdinfo.FileEntry) bool
}

// Ordered is implemented by kinds of files whose order in files.img counts: for
// criu, since Glis reads them all before it looks at any.
type Ordered interface {
	// Behind returns a file whose entry must come before that of f, nil if there
	// is none. What leads in a circle comes in any order.
	Behind(env *DumpEnv, f *scan.File) (*scan.File, error)
}

// Files finds the open file behind something that is no descriptor, so that
// it gets an entry in files.img like the others.
type Files interface {
	// Linked returns the file that /proc/PID/path links to ("exe", "cwd",
	// "root", "map_files/…"), opened with flags. Same inode and flags, same
	// file.
	Linked(t *scan.Task, path string, flags uint32) (*scan.File, error)
	// Received returns the file behind a descriptor of the engine's that came
	// with a message which is queued at a file. It takes the descriptor.
	Received(n *fd.FD, at *scan.File) (*scan.File, error)
	// Mapped is Linked for a mapping whose device, inode and name
	// /proc/PID/maps has told already.
	Mapped(t *scan.Task, v *proc.VMA, flags uint32) (*scan.File, error)
	// Named makes a file known that has no descriptor, but a path, and gives
	// it a number.
	Named(f *scan.File)
}

// File is one sort of open file description.
type File interface {
	// Type is the tag in files.img and the name in logs.
	Type() fdinfo.FdTypes
	// Match tells whether an open file is of this sort.
	Match(f *scan.File) bool
	// Dump returns the entry for files.img (Type and Id are filled in by the
	// caller), and puts whatever else it needs into other images.
	Dump(ctx context.Context, env *DumpEnv, f *scan.File) (*fdinfo.FileEntry, error)
	// Plan adds what makes the file again. It makes no system call, and may keep what e
	// points to, but not e, which is used again.
	Plan(p *plan.Plan, e *fdinfo.FileEntry) error
}

// Locker is a File some of whose packets have to be held back from before it
// is dumped until it is restored.
type Locker interface {
	// Flows returns what is to be locked for this file, none mostly. It is
	// asked for every file that Match is true for, before any is dumped.
	Flows(env *DumpEnv, f *scan.File) ([]netlock.Flow, error)
}

// PeekerAhead is a File that can look at queues before packets are held back, and
// find out later which of them have been the same since.
type PeekerAhead interface {
	// PeekAhead is called when all descriptors of the tree are found, beside other work
	// with the tree, and has ended before the first file is dumped: when that may be done on
	// all CPUs there is enough.
	PeekAhead(env *DumpEnv, enough func() bool) error
}

// Preparer is a File that can do part of its work before the tree is frozen.
type Preparer interface {
	// PrepareFor is called with about how many descriptors the tree has, and
	// what shows the kernel's memory of sockets, as long as the dump lasts; nil
	// if they are few or the kernel doesn't show it.
	PrepareFor(descriptors int, m *sockmem.TCPReader)
}

// SocketSeer is a File that looks at the kernel's memory of sockets while the
// descriptors of the tree are found, by the look that finds those.
type SocketSeer interface {
	// SeeSocket is called with each socket of a frozen task, if PrepareFor was
	// given what shows them. The bytes are only valid during the call.
	SeeSocket(t *scan.Task, m sockmem.Socket)
}

// Foreseer is a File that can say of a tree that still runs that it can't be
// dumped.
type Foreseer interface {
	// Foresee is called before the freeze if the tree may have sockets. What it
	// is told of may change until then: it refuses what would be refused if it
	// didn't, and is silent if it can't look. See Find.
	Foresee(env *DumpEnv, find Find) error
}

// Find calls f with one open file of each socket of the tree among those with
// these inodes, until it fails. The file has its task, number and inode, and can
// be borrowed as long as the call lasts, if the task hasn't closed it.
type Find func(inodes map[uint64]bool, f func(*scan.File) error) error

// MemoryUser is a File that reads the kernel's memory.
type MemoryUser interface {
	// KernelNames are the members of structures that it reads, see kmem.Open.
	KernelNames() []string
	// UseMemory is called once, before the freeze; it is open as long as the
	// dump lasts.
	UseMemory(m *kmem.Shared)
}

// MemoryAsker is a MemoryUser for other files than sockets.
type MemoryAsker interface {
	// AsksMemory tells whether it reads there about a file that a descriptor links to. It is
	// called before the freeze.
	AsksMemory(link string) bool
}

// LastLooker is a File to which somebody outside may come while the tree stands still.
type LastLooker interface {
	// LastLook is called if the tree is to be killed, when all else is dumped: it dumps who
	// has come since Dump, and sees to it that nobody comes after that.
	LastLook(env *DumpEnv) error
}

// Ender is a File that has something to see to when the tree is about to be killed.
type Ender interface {
	// End is called when the dump is committed, and all threads still stand. It may do
	// to files of the tree what can't be taken back, and is not called if the engine
	// dies then.
	End() error
}

// Discoverer is a File that finds files within its own ones.
type Discoverer interface {
	// Discover makes them known, see Files, if that isn't done yet.
	Discover(env *DumpEnv) error
}

// Loner is a File that can tell of some files from the kernel's memory alone, which only
// messages have that nobody can receive.
type Loner interface {
	// Lone returns a file that is like one, which Dump is given in its place, with its flags,
	// a socket's inode, and Within; or why there is none. Of a file of another kind it says
	// nothing.
	Lone(m *sockmem.Memory, x *sockmem.Lone) (own *fd.FD, why string, err error)
}

// Closer is a File that keeps something open during a dump.
type Closer interface{ Close() error }

// Planner is a File that has something to check when all entries of
// files.img were planned: that peers are there, for one.
type Planner interface{ Planned() error }

// Doubter is a File that need not plan all of its entries to know that a restore can.
type Doubter interface {
	// Doubt returns what looks at the entries of files.img when a restore is rehearsed,
	// by a dump that is about to end the tree.
	Doubt(src plan.Source) (Doubt, error)
}

// Doubt looks at all entries of files.img, of whatever types, of which there may be very
// many.
type Doubt interface {
	// See is given each, at its place. It may be valid no longer than the call. Of
	// internet sockets that were encoded at once it may be empty but for its type.
	See(at int, e *fdinfo.FileEntry)
	// Sure marks those that need not be planned: since it is plain that they can be, or
	// there are so many that it would take too long.
	Sure(sure []bool)
}

// Facet is one part of a task's or thread's own state.
type Facet interface {
	Name() string
	// Dump queues the calls whose answers only the thread itself can give.
	// The answer (may be nil) is called when they have run and fills in the
	// image entry.
	Dump(q *Question) (Answer, error)
	// Restore queues the calls that bring the state back.
	Restore(r *Redo) error
}

// Glimpser is a facet of a thread that need not make calls of its own if the kernel's
// memory was looked at (scan.Thread.Seen) and another thread is asked that is like it.
type Glimpser interface {
	// Glimpse returns what Dump would, from what was seen of the thread, or from the
	// other one's answer (nil if it gave none), which is good for both. There is no
	// batch.
	Glimpse(q *Question, its Answer) (Answer, error)
}

// Learner is a Facet that has to know something of the machine.
type Learner interface {
	// Learn is called before the tree is frozen.
	Learn()
}

// Checker is a Facet that can say from the images, the machine and the
// engine's privileges alone that it can't be restored.
type Checker interface {
	Check(env *plan.CheckEnv, core *criu_core.CoreEntry) error
}

// Question is a facet's look at a frozen thread.
type Question struct {
	Env    *DumpEnv
	Task   *scan.Task
	Thread *scan.Thread
	Batch  *remote.Batch
}

// Answer fills in the image entry of the thread that was asked.
type Answer func(core *criu_core.CoreEntry) error

// Redo is a thread that a facet's state comes back to.
type Redo struct {
	Env    *plan.Env
	Batch  *remote.Batch
	Leader *criu_core.CoreEntry // of the thread-group leader: what belongs to the process
	Core   *criu_core.CoreEntry // of this thread
	PID    scan.VPID            // of the process
	TID    scan.VPID            // of this thread
	Host   proc.PID             // of the process, as the engine's /proc has it
	// SameFilters tells whether all of several threads of the process are under the
	// same filters of seccomp.
	SameFilters func() bool
	Extra       Extra // what criu's fields can't say about this thread
}

// Newborn is a Facet of a process that its children and threads begin with, so
// that it comes back before there are any. Its Restore has nothing left to do.
type Newborn interface {
	// Begin queues what gives a process that was just cloned its state, while it
	// still has the engine's root directory. parent is the leader of the process
	// whose it has so far, nil if that is the engine's; free is the number that
	// the next descriptor gets.
	Begin(r *Redo, parent *criu_core.CoreEntry, free int32) error
}

// Extra is what Glis knows about one thread that criu's images have no field
// for, by name; usually nil.
type Extra map[string][]byte
