package file

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// fifoSet is a FIFO to be opened again. Whoever is made first opens it for
// reading and writing, so that nobody waits for the other end, and puts its
// contents back; that is closed when all are there.
type fifoSet struct {
	nodes []*fifoNode
	pipe  pipeSet // its size and contents
	hold  *fd.FD
}

// fifoNode is one file description of a FIFO.
type fifoNode struct {
	base
	set       *fifoSet
	regf      plan.ID
	path      *regularNode
	unwritten bool
}

// Plan implements kind.File.
func (k *Fifo) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetFifo()
	if in == nil {
		return entryError(e, "a FIFO without its entry")
	}
	b, err := newBase(e, in.GetId(), 0, nil)
	if err != nil {
		return err
	}
	if k.sets == nil {
		if err := k.read(p.Source); err != nil {
			return err
		}
	}
	s := k.set(in.GetPipeId())
	unwritten, _, _ := extra(in, fifoUnwritten)
	n := &fifoNode{base: b, set: s, regf: plan.ID(in.GetRegfId()), unwritten: unwritten == 1}
	s.nodes = append(s.nodes, n)
	k.plan = p
	return p.Add(n)
}

func (k *Fifo) set(id uint32) *fifoSet {
	s := k.sets[id]
	if s == nil {
		s = &fifoSet{pipe: pipeSet{id: id, queue: &pipeQueue{}}}
		k.sets[id] = s
	}
	return s
}

// read reads what is in each FIFO.
func (k *Fifo) read(src plan.Source) error {
	k.sets = map[uint32]*fifoSet{}
	all, err := src.Entries(image.FifoData)
	for _, e := range all {
		m := e.Message.(*pipedata.PipeDataEntry)
		s := k.set(m.GetPipeId())
		if err := s.pipe.take(m, &e); err != nil {
			return fmt.Errorf("fifo-data.img: FIFO %#x %w", m.GetPipeId(), err)
		}
	}
	return err
}

// Planned implements kind.Planner: every FIFO has a path.
func (k *Fifo) Planned() error {
	for _, s := range k.sets {
		for _, n := range s.nodes {
			path, ok := k.plan.Node(n.regf).(*regularNode)
			if !ok || path.mode&unix.S_IFMT != unix.S_IFIFO && path.mode != 0 {
				return fmt.Errorf("file %#x: a FIFO whose path, file %#x, is missing or no FIFO's", n.id, n.regf)
			}
			n.path, n.flags, n.owner = path, path.flags, path.owner
		}
	}
	return nil
}

// String implements plan.Node.
func (n *fifoNode) String() string {
	return fmt.Sprintf("FIFO %#x: by file %#x, with %d bytes in it", n.id, n.regf, n.set.pipe.queue.size())
}

// Check implements plan.Checked.
func (n *fifoNode) Check(env *plan.CheckEnv) error {
	if n.set.nodes[0] != n {
		return nil
	}
	return n.set.pipe.check(env)
}

// Create implements plan.Node.
func (n *fifoNode) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	if n.set.hold == nil {
		if err := n.set.open(n, env); err != nil {
			return nil, fmt.Errorf("%s: %w", n.path.name, err)
		}
	}
	d, err := n.again()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.path.name, err)
	}
	return n.ready(d)
}

// again opens the FIFO once more: by its path if no link was to be followed there (O_NOFOLLOW),
// which can't be said of a descriptor.
func (n *fifoNode) again() (*fd.FD, error) {
	flags := n.flags | unix.O_NONBLOCK
	if flags&unix.O_NOFOLLOW == 0 || n.path.remap != nil {
		return reopen(n.set.hold, flags)
	}
	return openSame(n.set.hold, n.path.name, int(flags&^notForOpen)|unix.O_NOCTTY|unix.O_CLOEXEC)
}

// open opens the FIFO by its path and puts its contents back. If nobody has
// ever written to it, nobody does now.
func (s *fifoSet) open(n *fifoNode, env *plan.Env) error {
	as := *n.path
	as.flags = unix.O_RDWR | unix.O_NONBLOCK
	if !slices.ContainsFunc(s.nodes, func(n *fifoNode) bool { return !n.unwritten }) {
		as.flags = unix.O_RDONLY | unix.O_NONBLOCK
	}
	d, err := as.Create(context.Background(), env)
	if err != nil {
		return err
	}
	there, err := unix.IoctlGetInt(d.Int(), unix.TIOCINQ)
	if err == nil && there > 0 {
		err = fmt.Errorf("there are %d bytes in it already: somebody else uses it; end that process, or let it read them", there)
	}
	if err == nil && access(as.flags) == unix.O_RDWR {
		err = s.pipe.fill(d)
	}
	if err != nil {
		return errors.Join(err, d.Close())
	}
	s.hold = d
	return nil
}

// Late implements plan.Later: all ends are there, so that none has to be held.
func (n *fifoNode) Late(context.Context, *plan.Env) error {
	n.Drop()
	return nil
}

// Drop implements plan.Dropper.
func (n *fifoNode) Drop() {
	if n.set.hold != nil {
		n.set.hold.Close()
		n.set.hold = nil
	}
}
