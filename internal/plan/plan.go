// Package plan is what a restore decided before it did anything: which things
// are made again, what each needs, in which order. It can be printed and
// tested without a process.
package plan

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"glis.dev/glis/image"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/options"
)

// ID is the number of an open file in files.img.
type ID uint32

// Node is one open file to be made again.
type Node interface {
	// ID is its number in files.img.
	ID() ID
	// Needs are the files that must have been created before this one.
	Needs() []ID
	// String is one line for people: kind, name, what is special.
	String() string
	// Create makes it, in the engine. The engine hands the descriptor to
	// every task that uses it and closes it.
	Create(ctx context.Context, env *Env) (*fd.FD, error)
}

// Filler is a Node that gets contents once every node is created: queues,
// memberships. own is the descriptor that Create returned.
type Filler interface {
	Fill(ctx context.Context, env *Env, own *fd.FD) error
}

// Member is a Node that some task must finish itself, since what it keeps
// names the task's own descriptor numbers (epoll). Finish is called once, for
// one task that has it as descriptor n, when all descriptors of that task are
// at their numbers; it queues calls.
type Member interface {
	Finish(b Batcher, n int32) error
}

// Common is a Member that names no descriptors: any task can finish it, and one does if
// none has it, since it is in the queue of a socket only.
type Common interface {
	Member
	Common()
}

// Async is a Node of a file of whose I/O somebody may be told by signals (O_ASYNC),
// which is asked for by a task when all files are made.
type Async interface {
	// FileFlags are the O_* that the file has.
	FileFlags() uint32
}

// Asker is a Node that tasks ask for something by descriptors of theirs, when all files
// are made: since the kernel keeps who did, and by which.
type Asker interface {
	// Asked returns whose descriptors these are.
	Asked() []Use
	// Ask queues what one of them is used to ask for, by its place in Asked.
	Ask(b Batcher, i int)
}

// StandIn is a Node for which processes that had ended before the dump have to make calls
// (Env.As): their numbers must be free.
type StandIn interface{ StandsIn() []uint32 }

// Batcher is the part of remote.Batch that nodes queue calls with.
type Batcher interface {
	Add(name string, nr uintptr, args ...uint64)
	Put(data []byte) uint64
	// InUse tells whether the task has descriptor n.
	InUse(n int32) bool
	// Spare returns a descriptor number that the task does not use. What is
	// put there must be closed by a later call.
	Spare() int32
}

// Checked is a Node that can say, before anything is made, that it can't be.
type Checked interface {
	Check(env *CheckEnv) error
}

// Independent is a Node whose Create, if it says so, others may run beside, when
// all it needs is there.
type Independent interface{ Independent() bool }

// Streamed is an Independent whose Fill, if it says so, may run beside the Create of
// others, too: it can be given out while others are still made.
type Streamed interface{ Streamed() bool }

// Later is a Node that has something left to do when all tasks have their
// memory and descriptors.
type Later interface {
	Late(ctx context.Context, env *Env) error
}

// Locked is a Node whose packets must be held back until all of the tree is
// there. It tells from images alone which, behind those of others; they are locked
// before any node is created.
type Locked interface {
	Flows(others []netlock.Flow) []netlock.Flow
}

// Resumer is a Node with options that are set in the last moment: when the
// tree is whole, nothing can fail any more and its packets are let through.
// They are set, in this order, in any case: should the engine die, by whoever
// finishes its work. Nothing else can be done then, as tasks may run already.
type Resumer interface {
	// Resumes tells whether there are any.
	Resumes() bool
	Resume() []linux.SockOpt
}

// Begun is a Node of which something can be made before packets are held back, since nobody
// notices: a socket without an address. What fails is left to Create, what Create doesn't
// use to Drop.
type Begun interface {
	Dropper
	Begin()
}

// Together is a Node that is made sooner along with others of its sort.
type Together interface {
	Node
	// CreateAll makes nodes, of its sort or of another one, and tells of each, once,
	// what became of it.
	CreateAll(ctx context.Context, env *Env, all []Node, made func(i int, d *fd.FD, err error))
}

// Terminal is a Node that is the controlling terminal of a session of the tree.
// Its Needs are there when its leader takes it.
type Terminal interface {
	Node
	// Session returns the number of that session, 0 if there is none, and of
	// the group in the foreground, 0 if it is gone.
	Session() (sid, group uint32)
	// Slave opens what the leader of the session takes as its terminal; the
	// caller closes it.
	Slave(env *Env) (*fd.FD, error)
}

// Follower is a Node that has something to tidy up once the tree runs again.
// What fails then is a warning.
type Follower interface{ Follow() error }

// Dropper is a Node that may hold something for other nodes. Drop is called at
// the end of every restore, however it ends.
type Dropper interface {
	Drop()
}

// Source is where Plan reads further images from.
type Source interface {
	// Entries returns all entries of an image file with their payloads; none
	// if there is no such file.
	Entries(row *image.Row, ids ...uint32) ([]Entry, error)
}

// Singles is a Source that has many files of one entry each, and of one row, read in
// the same memory: an entry is valid until the next call, its payload for good. What
// Singles returns is for one goroutine; its message is nil if there is no such file.
type Singles interface {
	Singles(row *image.Row) func(id uint32) (Entry, error)
}

// Raw is a Source that gives the encoded form of each entry of an image file, which
// is valid until f returns; none if there is no such file.
type Raw interface {
	Raw(row *image.Row, f func(entry []byte) error) error
}

// Entry is one entry of an image with the raw bytes that follow it.
type Entry struct {
	Message proto.Message
	Payload []byte
	// Far is the payload, in place of Payload, if it is in the image until a node needs it,
	// because there is much; nil: it isn't.
	Far *image.Far
}

// Size is how many bytes follow the entry.
func (e *Entry) Size() int { return len(e.Payload) + e.Far.Len() }

// Env is what nodes and facets have at hand while a tree is made again.
type Env struct {
	Log     *slog.Logger
	Options *options.Restore
	Store   image.Store
	// Locked tells whether packets of Locked nodes are held back while the
	// tree is made.
	Locked bool
	// File returns the descriptor of a node that is created already.
	File func(ID) (*fd.FD, error)
	// As makes calls as somebody else. Not while a batch is being built, so
	// from Prepare and Stuff only.
	As As
	// Alive makes sure that there is a process of that number, as the images
	// have it, until all tasks have their descriptors and their contents.
	Alive func(ctx context.Context, pid uint32) error
	// Holding sees that a process, if it is one of the tree, has a descriptor of that number
	// while do runs. As As, from Prepare and Stuff only.
	Holding func(pid uint32, number int32, do func() error) error
	// Now tells what a clock (CLOCK_*) shows to the tree, in ns. Its root must
	// exist.
	Now func(clock int32) (uint64, error)
	// Rings are for those who make many calls at a time. They end with the restore of
	// open files.
	Rings linux.Rings
}

// CheckEnv is what can be known before anything is made.
type CheckEnv struct {
	Log     *slog.Logger
	Options *options.Restore
	Store   image.Store
	// Capable tells whether the engine has a capability (CAP_*) in effect.
	Capable func(capability int) bool
	// Bounded tells whether the engine's bounding set has a capability.
	Bounded func(capability int) bool
	Huge    hugepages.Wanted // huge pages that are needed
	// Ended returns why there is no more time, for what has to be waited for. It may be
	// nil.
	Ended func() error
	// Room is how many bytes more than usual the calls take that facets will queue for
	// the process that is being checked: each adds its own (see Calls).
	Room atomic.Int64
}

// Calls adds room for n calls of a batch, each with so many bytes of arguments in memory.
func (e *CheckEnv) Calls(n, bytes int) {
	e.Room.Add(int64(n) * int64(arch.EntrySize+(bytes+15)&^15))
}

// Plan is the set of files to make.
type Plan struct {
	Source  Source
	Options *options.Restore
	files   ByID[planned]
	order   []ID
	sorted  []Node          // what Nodes returns; nil: to be found out
	uses    []Use           // of many files; nothing moves
	taken   map[string]bool // keys of --inherit-fd that a file has
	binders map[string][]ID // sockets by the last part of the paths that they are bound to
	// Else returns a file that is there, but isn't planned; may be nil. See
	// restore.Rehearse.
	Else func(ID) Node
	// Beside is what kinds do beside the planning. Who makes a plan waits for it, also if
	// the plan fails.
	Beside sync.WaitGroup
}

// planned is a file.
type planned struct {
	node  Node
	users []Use
	state int8 // while Nodes looks at it: 1 being visited, 2 done
}

// Use is a descriptor of a restored task that refers to a file.
type Use struct {
	Task    uint32 // PID in the images
	FD      int32
	Cloexec bool
}

// New returns an empty plan over these images.
func New(src Source, o *options.Restore) *Plan {
	return &Plan{Source: src, Options: o}
}

// Expect makes room for n nodes. There must be none yet.
func (p *Plan) Expect(n int) {
	p.files.Expect(n)
	p.order = make([]ID, 0, n)
}

// Expected returns how many nodes there is room for.
func (p *Plan) Expected() int { return cap(p.order) }

// Add adds a node. Two nodes with one ID mean broken images.
func (p *Plan) Add(n Node) error {
	at := p.files.At(n.ID())
	if at.node != nil {
		return fmt.Errorf("files.img: file %#x is there twice", n.ID())
	}
	at.node = n
	p.order, p.sorted = append(p.order, n.ID()), nil
	return nil
}

// Node returns the node with this ID, or nil.
func (p *Plan) Node(id ID) Node {
	if at := p.files.Find(id); at != nil && at.node != nil {
		return at.node
	}
	if p.Else != nil {
		return p.Else(id)
	}
	return nil
}

// Binds records that a node makes the file of a path, in the place of one that is there.
func (p *Plan) Binds(path string, id ID) {
	if p.binders == nil {
		p.binders = map[string][]ID{}
	}
	name := filepath.Base(path)
	p.binders[name] = append(p.binders[name], id)
}

// Bound returns the nodes that may make the file of a path: those of all files of that
// name, as a directory may be called in many ways.
func (p *Plan) Bound(path string) []ID { return p.binders[filepath.Base(path)] }

// usesAtOnce is for how many uses there is memory in one piece: most files have one.
const usesAtOnce = 128

// Use records that a task has this file as a descriptor.
func (p *Plan) Use(id ID, u Use) {
	at := p.files.At(id)
	if len(at.users) > 0 {
		at.users = append(at.users, u)
		return
	}
	if len(p.uses) == cap(p.uses) {
		p.uses = make([]Use, 0, usesAtOnce)
	}
	n := len(p.uses)
	p.uses = append(p.uses, u)
	at.users = p.uses[n : n+1 : n+1]
}

// Users returns who has a file as a descriptor.
func (p *Plan) Users(id ID) []Use {
	if at := p.files.Find(id); at != nil {
		return at.users
	}
	return nil
}

// deepest is how long a chain of needs may be. The kernel allows epolls in
// epolls five deep; nothing else comes near.
const deepest = 1 << 10

// Nodes returns all nodes, each after those it needs. It fails on a need that
// is missing, on a circle, and on a chain that only broken images have. What a
// node needs must not change any more.
func (p *Plan) Nodes() ([]Node, error) {
	if p.sorted != nil {
		return p.sorted, nil
	}
	o := orderer{p: p, out: make([]Node, 0, len(p.order))}
	for _, id := range p.order {
		p.files.At(id).state = 0
	}
	for _, id := range p.order {
		if err := o.visit(id, nil); err != nil {
			return nil, err
		}
	}
	p.sorted = o.out
	return o.out, nil
}

type orderer struct {
	p   *Plan
	out []Node
}

// visit puts a node behind those it needs; path is who needs it.
func (o *orderer) visit(id ID, path []ID) error {
	at := o.p.files.Find(id)
	switch {
	case (at == nil || at.node == nil) && o.p.Node(id) != nil:
		return nil // not planned
	case at == nil || at.node == nil:
		return fmt.Errorf("files.img: file %#x is needed by %#x and missing", id, path[len(path)-1])
	case at.state == 2:
		return nil
	case at.state == 1:
		return fmt.Errorf("files.img: files need each other in a circle: %#x", append(path[slices.Index(path, id):], id))
	case len(path) >= deepest:
		return fmt.Errorf("files.img: file %#x is needed by a chain of %d files, more than can be", id, len(path))
	}
	at.state = 1
	path = append(path, id)
	for _, need := range at.node.Needs() {
		if err := o.visit(need, path); err != nil {
			return err
		}
	}
	at.state = 2
	o.out = append(o.out, at.node)
	return nil
}
