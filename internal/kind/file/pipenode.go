package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// pipeSet is a pipe to be made again. The first of its nodes makes it and
// fills it; the others open it through that one's descriptor, but the other
// end that pipe2(2) gave goes to the first node it fits.
type pipeSet struct {
	id      uint32
	nodes   []*pipeNode
	queue   *pipeQueue
	entry   *pipedata.PipeDataEntry // nil if CRIU had no reading end of it
	outside bool                    // an end was held outside of the tree
	spare   *fd.FD                  // the other end of pipe2(2)
	heir    *pipeNode               // who gets it; nil: nobody
}

// limits on numbers in images.
const (
	maxPipeSize = 1 << 31 // F_SETPIPE_SZ takes no more
	maxPacket   = image.PageSize
)

// Plan implements kind.File.
func (k *Pipe) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetPipe()
	if in == nil {
		return entryError(e, "a pipe without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	if access(b.flags) == unix.O_ACCMODE {
		return entryError(e, "a pipe with flags %#o: it can't be", b.flags)
	}
	if g := p.InheritedInode("pipe", in.GetPipeId()); g != nil {
		return p.Add(plan.NewHeir(b.id, g, unix.S_IFIFO, func(d *fd.FD) (*fd.FD, error) { return reopen(d, b.flags) }, &b))
	}
	if k.sets == nil {
		if err := k.read(p.Source); err != nil {
			return err
		}
	}
	if b.flags&unix.O_PATH != 0 {
		n := &pipePath{base: b, set: k.set(in.GetPipeId())}
		k.paths = append(k.paths, n)
		return p.Add(n)
	}
	n := &pipeNode{base: b, set: k.set(in.GetPipeId())}
	n.set.nodes = append(n.set.nodes, n)
	return p.Add(n)
}

func (k *Pipe) set(id uint32) *pipeSet {
	s := k.sets[id]
	if s == nil {
		s = &pipeSet{id: id, queue: &pipeQueue{}}
		k.sets[id] = s
	}
	return s
}

// read reads what the ends of each pipe share.
func (k *Pipe) read(src plan.Source) error {
	k.sets = map[uint32]*pipeSet{}
	all, err := src.Entries(image.PipesData)
	for _, e := range all {
		m := e.Message.(*pipedata.PipeDataEntry)
		s := k.set(m.GetPipeId())
		if err := s.take(m, &e); err != nil {
			return fmt.Errorf("pipes-data.img: pipe %#x %w", m.GetPipeId(), err)
		}
	}
	return err
}

// take takes the entry that says what is in the pipe.
func (s *pipeSet) take(m *pipedata.PipeDataEntry, e *plan.Entry) (err error) {
	if s.entry != nil || m.GetSize() > maxPipeSize {
		return fmt.Errorf("is there twice, or has a size of %d bytes", m.GetSize())
	}
	s.entry, s.queue.data, s.queue.far = m, e.Payload, e.Far
	_, _, s.outside = extra(m, pipeOutside)
	if s.queue.pieces, err = getPieces(m, e.Size()); err != nil {
		return fmt.Errorf("has %w", err)
	}
	return nil
}

// pipeNode is one file description of a pipe.
type pipeNode struct {
	base
	set *pipeSet
}

// String implements plan.Node.
func (n *pipeNode) String() string {
	s := fmt.Sprintf("pipe %#x: %s end of pipe %#x", n.id, [...]string{"read", "write", "read and write"}[access(n.flags)], n.set.id)
	if n.first() {
		s += fmt.Sprintf(", made with %d bytes in it", n.set.queue.size())
	}
	return s
}

func (n *pipeNode) first() bool { return n.set.nodes[0] == n }

// Needs implements plan.Node.
func (n *pipeNode) Needs() []plan.ID {
	if n.first() {
		return nil
	}
	return []plan.ID{n.set.nodes[0].id}
}

// Check implements plan.Checked: a large pipe needs a privilege.
func (n *pipeNode) Check(env *plan.CheckEnv) error {
	if !n.first() {
		return nil
	}
	return n.set.check(env)
}

func (s *pipeSet) check(env *plan.CheckEnv) error {
	if s.outside {
		return fmt.Errorf("pipe %#x: the other end was held outside of the tree; hand in another pipe by --inherit-fd 'fd[N]:pipe:[%d]'", s.id, s.id)
	}
	if s.room() <= defaultPipeSize || env.Capable(unix.CAP_SYS_RESOURCE) {
		return nil
	}
	most, err := pipeMaxSize()
	if err != nil {
		return err
	}
	if uint64(s.room()) > most {
		return fmt.Errorf("pipe %#x: it held up to %d bytes, and without CAP_SYS_RESOURCE no pipe may hold more than %d; raise /proc/sys/fs/pipe-max-size", s.id, s.room(), most)
	}
	return nil
}

func pipeMaxSize() (uint64, error) {
	const name = "/proc/sys/fs/pipe-max-size"
	b, err := fd.ReadFile(name)
	if err != nil {
		return 0, fmt.Errorf("read the largest size of a pipe: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}

// Create implements plan.Node.
func (n *pipeNode) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	if n.first() {
		d, err := n.set.create()
		if err != nil {
			return nil, fmt.Errorf("pipe %#x: %w", n.set.id, err)
		}
		return n.ready(d)
	}
	if n.set.heir == n && n.set.spare != nil {
		d := n.set.spare
		n.set.spare = nil
		return n.ready(d)
	}
	return n.set.again(env, n.flags)
}

// again opens a pipe that is made once more.
func (s *pipeSet) again(env *plan.Env, flags uint32) (*fd.FD, error) {
	first, err := env.File(s.nodes[0].id)
	if err != nil {
		return nil, err
	}
	d, err := reopen(first, flags)
	if err != nil {
		return nil, fmt.Errorf("pipe %#x: %w", s.id, err)
	}
	return d, nil
}

// Drop lets go of what is held for a node that was not created.
func (n *pipeNode) Drop() {
	if n.set.spare != nil {
		n.set.spare.Close()
		n.set.spare = nil
	}
}

// create makes the pipe as it was and returns the first node's end.
func (s *pipeSet) create() (*fd.FD, error) {
	r, w, err := newPipe()
	if err != nil {
		return nil, err
	}
	if err := s.fill(w); err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	own, err := s.share(r, w)
	if err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	return own, nil
}

// share hands out the two ends. An end that nobody gets is closed, so that the
// other one sees what it saw: the end of the file, or nobody to write to.
func (s *pipeSet) share(r, w *fd.FD) (*fd.FD, error) {
	ends := map[uint32]*fd.FD{unix.O_RDONLY: r, unix.O_WRONLY: w}
	flags := s.nodes[0].flags
	own, other := ends[access(flags)], uint32(unix.O_WRONLY)
	switch access(flags) {
	case unix.O_WRONLY:
		other = unix.O_RDONLY
	case unix.O_RDWR:
		d, err := reopen(r, flags)
		return d, errors.Join(err, r.Close(), w.Close())
	}
	i := slices.IndexFunc(s.nodes, func(n *pipeNode) bool { return access(n.flags) == other })
	if i < 0 {
		return own, ends[other].Close()
	}
	s.heir, s.spare = s.nodes[i], ends[other]
	return own, nil
}

// fill gives a new pipe its size, owner and data.
func (s *pipeSet) fill(w *fd.FD) error {
	if size := s.room(); size != 0 && size != defaultPipeSize {
		if _, err := unix.FcntlInt(uintptr(w.Int()), unix.F_SETPIPE_SZ, int(size)); err != nil {
			return fmt.Errorf("let it hold %d bytes: %w", size, err)
		}
	}
	if err := s.own(w); err != nil {
		return err
	}
	return s.queue.write(w)
}

// size is how much the pipe held, in bytes; 0 if that is not known.
func (s *pipeSet) size() uint32 { return s.entry.GetSize() }

// room is size, or more: what splice(2) takes from a socket may be several pages in one of
// the pipe's buffers, of which it has one for each page of its size; write(2) puts in one page.
func (s *pipeSet) room() uint32 {
	size := s.size()
	if n := s.queue.size(); n > int(cmp.Or(size, defaultPipeSize)) {
		return uint32(min(n, maxPipeSize)) // the kernel takes the next power of two
	}
	return size
}

// own gives a new pipe to whom it belonged.
func (s *pipeSet) own(w *fd.FD) error {
	if s.entry == nil {
		return nil
	}
	uid, _, ok := extra(s.entry, pipeUser)
	gid, _, _ := extra(s.entry, pipeGroup)
	mode, _, _ := extra(s.entry, pipeAccess)
	if !ok {
		return nil
	}
	if err := unix.Fchown(w.Int(), int(uid), int(gid)); err != nil {
		return fmt.Errorf("give it to user %d: %w", uid, err)
	}
	if err := unix.Fchmod(w.Int(), uint32(mode&0o7777)); err != nil {
		return fmt.Errorf("set its mode: %w", err)
	}
	return nil
}

// size is how many bytes are in the queue.
func (q *pipeQueue) size() int { return len(q.data) + q.far.Len() }

// write puts the queue into an empty pipe.
func (q *pipeQueue) write(w *fd.FD) error {
	if q.far == nil {
		return q.writeData(w)
	}
	return q.far.Use(func(b []byte) error {
		near := pipeQueue{data: b, pieces: q.pieces}
		return near.writeData(w)
	})
}

// writeData puts the pieces into an empty pipe, one after the other.
func (q *pipeQueue) writeData(w *fd.FD) error {
	if q.pieces == nil {
		return q.piece(w, q.data)
	}
	rest := q.data
	for i, p := range q.pieces {
		mode := unix.O_NONBLOCK
		if !p.plain {
			mode |= unix.O_DIRECT
		}
		if _, err := unix.FcntlInt(uintptr(w.Int()), unix.F_SETFL, mode); err != nil {
			return fmt.Errorf("set packet mode: %w", err)
		}
		put := q.piece
		if p.plain && i < len(q.pieces)-1 {
			put = q.sealed
		}
		if err := put(w, rest[:p.n]); err != nil {
			return err
		}
		rest = rest[p.n:]
	}
	return nil
}

// piece writes a piece of the queue.
func (q *pipeQueue) piece(w *fd.FD, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(w.Int(), b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("put its %d bytes back, %d of a piece are left: %w", len(q.data), len(b), err)
		}
		b = b[n:]
	}
	return nil
}

// sealed writes plain data that a packet follows. A write fills up the last
// page of plain data, also one that makes a packet, and the packet would be
// lost in it. tee(2) copies pages that are not filled up any more.
func (q *pipeQueue) sealed(to *fd.FD, b []byte) error {
	for len(b) > 0 {
		part := b[:min(len(b), 2*image.PageSize)] // any pipe has room for that
		r, w, err := newPipe()
		if err != nil {
			return err
		}
		if err = q.piece(w, part); err == nil {
			err = teeAll(r, to, len(part))
		}
		if err := errors.Join(err, r.Close(), w.Close()); err != nil {
			return err
		}
		b = b[len(part):]
	}
	return nil
}
