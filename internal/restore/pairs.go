package restore

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// Pairs of files whose ends only one task has are made by the task itself:
// nobody else has to have them for a moment.

// couple is a pair that a task makes.
type couple struct {
	node    plan.Coupled
	who     plan.Identity
	own     int32 // where the node belongs, and the other end
	other   int32
	cloexec bool
}

// couples returns, of a task's descriptors in ascending order, the pairs that
// it makes by itself, and the other descriptors.
func (r *restore) couples(t *task, all []descriptor) (pairs []couple, rest []descriptor) {
	many := 0
	for i := range all {
		e := &all[i]
		at := r.files.all.At(e.id)
		if _, ok := r.plan.Node(e.id).(plan.Coupled); ok {
			at.end = e
			many++
		}
	}
	pairs, rest = make([]couple, 0, many/2), make([]descriptor, 0, len(all)-many)
	for i := range all {
		e := &all[i]
		id := e.id
		if r.files.all.At(id).end == e && r.files.opened(id) == nil {
			if c, ok := r.couple(t, e); ok {
				pairs = append(pairs, c)
			}
		}
		if !r.files.all.At(id).placed {
			rest = append(rest, *e)
		}
	}
	for _, e := range all {
		r.files.all.At(e.id).end = nil
	}
	return pairs, rest
}

func (r *restore) couple(t *task, e *descriptor) (c couple, ok bool) {
	id := e.id
	if r.files.all.At(id).placed {
		return c, false
	}
	n := r.plan.Node(id).(plan.Coupled)
	other, who, ok := n.Couple(r.files.env)
	if !ok {
		return c, false
	}
	o := r.files.all.At(other).end
	if o == nil || who.PID != t.pid || e.flags != o.flags || !r.files.alone(id, other) {
		return c, false
	}
	r.files.all.At(id).placed, r.files.all.At(other).placed = true, true
	return couple{n, who, e.fd, o.fd, e.flags&unix.FD_CLOEXEC != 0}, true
}

// alone tells whether each of two files is used once, and needed by nothing but
// the other.
func (f *files) alone(a, b plan.ID) bool {
	uses := 2
	for _, id := range []plan.ID{a, b} {
		if len(f.plan.Users(id)) != 1 {
			return false
		}
		for _, need := range f.plan.Node(id).Needs() {
			if need != a && need != b {
				return false
			}
			uses++
		}
	}
	return f.all.At(a).left+f.all.At(b).left == uses
}

// Limits of what one batch of pairs has: the task is at one while the engine makes
// ready the next.
const (
	firstCouples = 16 << 10 // bytes of the first; of each that follows twice as many, up to
	coupleBytes  = 160 << 10
	coupleRoom   = 256 << 10 // what it takes in memory, at most, but for groups
)

// coupling is a task that makes pairs.
type coupling struct {
	r      *restore
	t      *task
	before relay
	made   int              // batches
	memory [2]remote.Memory // of the batch that runs, and of the next
	room   uint64           // in the arena for each of them
	top    uint64           // of the arena behind the first batch
}

// makeCouples has a task make its pairs. All other descriptors are where they
// belong.
func (r *restore) makeCouples(ctx context.Context, t *task, pairs []couple) error {
	c := coupling{r: r, t: t, room: coupleRoom}
	for i := range pairs {
		c.room = max(c.room, coupleRoom+4*uint64(len(pairs[i].who.Groups)))
	}
	err := c.makeAll(ctx, pairs)
	if err := errors.Join(err, c.before.end()); err != nil {
		return err
	}
	t.live.arena.Reset()
	return nil
}

func (c *coupling) makeAll(ctx context.Context, pairs []couple) error {
	for most := firstCouples; len(pairs) > 0; most = min(2*most, coupleBytes) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := c.place(); err != nil {
			return err
		}
		b, n := c.some(pairs, most)
		if err := c.before.next(c.t, b, func() error { return nil }); err != nil {
			return err
		}
		if c.made++; c.made == 1 {
			c.top = c.t.live.arena.Top()
		}
		pairs = pairs[n:]
	}
	return nil
}

// place makes sure of room in the arena for a batch: where the one before the last was,
// whose pages are there. What the thread goes on from is in the first one.
func (c *coupling) place() error {
	a := c.t.live.arena
	if c.made > 0 && c.top+2*c.room <= a.Size() {
		a.Rewind(c.top + uint64(c.made%2)*c.room)
		return nil
	}
	if a.Room() < c.room {
		if err := c.before.end(); err != nil {
			return err
		}
		a.Reset()
	}
	return nil
}

// some returns a batch that makes the first n of pairs, of some bytes.
func (c *coupling) some(pairs []couple, most int) (b *remote.Batch, n int) {
	t := c.t
	b = t.live.arena.BatchIn(t.live.thread, &c.memory[c.made%2])
	back := c.r.makers.become(b, t.live, pairs[0].who)
	b.Expect(min(2*len(pairs), most/(2*arch.EntrySize)))
	both, _ := b.Alloc(8)
	for ; n < len(pairs) && (n == 0 || b.Size() < most) && pairs[n].sameMaker(&pairs[0]); n++ {
		pairs[n].make(b, t.live.table, uint64(both))
	}
	back()
	return b, n
}

func (c *couple) sameMaker(o *couple) bool {
	return c.who.UID == o.who.UID && c.who.GID == o.who.GID && slices.Equal(c.who.Groups, o.who.Groups)
}

// make queues the calls that make a pair and put it where it belongs.
func (c *couple) make(b *remote.Batch, table *fdTable, both uint64) {
	k := batcher{b, table}
	c.node.Make(k, c.cloexec, both)
	for _, m := range c.arrive(table) {
		move(b, table, m[0], m[1], c.cloexec)
	}
	c.node.Equip(k, c.own, c.other)
}

// arrive tells where the kernel puts the ends, which are the two lowest numbers
// that are free, and where they have to go from there.
func (c *couple) arrive(table *fdTable) [2][2]int32 {
	at, mate := table.alloc(), table.alloc()
	if at == c.other || mate == c.own {
		at, mate = mate, at // they are alike
	}
	return [2][2]int32{{at, c.own}, {mate, c.other}}
}

// move queues what moves a descriptor.
func move(b *remote.Batch, table *fdTable, from, to int32, cloexec bool) {
	if from == to {
		return
	}
	flags := uint64(0)
	if cloexec {
		flags = unix.O_CLOEXEC
	}
	b.Call("dup3", unix.SYS_DUP3, uint64(from), uint64(to), flags)
	b.Call("close", unix.SYS_CLOSE, uint64(from))
	table.free(from)
	table.take(to)
}
