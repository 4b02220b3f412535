package plan

import (
	"context"

	"glis.dev/glis/internal/fd"
)

// Identity is who makes a system call, where the kernel keeps that in what was
// made: see SO_PEERCRED in unix(7).
type Identity struct {
	PID      uint32 // as the images number it; 0 is the root of the tree
	UID, GID uint32
	Groups   []uint32
}

// Making is what calls are queued with that a process makes with an identity.
type Making interface {
	Batcher
	// Lent returns the number, in the process, of a descriptor that it was
	// lent.
	Lent(i int) uint64
	// New returns the number of the descriptor that a call makes: it must be
	// called once for each, in the order of their making.
	New() int32
	// Room reserves n bytes that a call may write to.
	Room(n int) uint64
}

// Prepared is a Node that other processes than the engine have a part in
// making. Prepare is called before Create, while all tasks of the tree stand
// still, and none has its own credentials yet. With are nodes that are due at
// the same time, this one among them: what they need may be done along.
type Prepared interface {
	Prepare(ctx context.Context, env *Env, with []Node) error
}

// Stuffed is a Node whose contents may be other files, and even itself. When
// all tasks have their descriptors, and before they get their own credentials,
// those that are Held are made, if nobody has yet, and Stuff is called.
type Stuffed interface {
	// Held returns the files that have to be there, nil if there is nothing to
	// stuff; the node itself is there anyway.
	Held() []ID
	Stuff(ctx context.Context, env *Env) error
}

// Brief is a Node that is a directory which can be entered only as long as the
// processes that stand in for others are there (Env.Alive).
type Brief interface{ Brief() }

// As has a process make the calls that queue queues, with an identity, and
// returns what they have made, in order of New. lend are descriptors of the
// engine's that they need. If no process of the tree has that number, one is
// made for a while.
type As func(ctx context.Context, who Identity, lend []int, queue func(Making)) ([]*fd.FD, error)
