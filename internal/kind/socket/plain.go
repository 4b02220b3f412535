package socket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Plain is a socket of a family without connections while it is looked at.
type Plain struct {
	Env            *kind.DumpEnv
	File           *scan.File
	FD             *fd.FD
	Type, Protocol int
	Opts           Saved
	Owner          *fown.FownEntry
	Sock           *kmem.Struct       // its structure; nil if the kernel's memory can't be read
	More           *extra.SocketEntry // what criu's entry has no place for
	ErrorsKept     bool               // errors that wait are carried over

	hidden error // why the kernel's memory can't be read
}

// LookAt borrows a socket and reads what sockets of all families have. learn
// returns the options of sockets of its type and protocol. The caller closes
// FD.
func LookAt(env *kind.DumpEnv, f *scan.File, m *kmem.Shared, learn func(typ, protocol int) (*Kernel, error)) (*Plain, error) {
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	p := &Plain{Env: env, File: f, FD: d, More: &extra.SocketEntry{}}
	if err = p.read(learn); err == nil {
		err = p.lookInside(m)
	}
	if err == nil && p.Opts.EBPF && p.More.Filter == nil {
		err = p.Refuse(WhyNoEBPF)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return p, nil
}

func (p *Plain) read(learn func(typ, protocol int) (*Kernel, error)) error {
	var err error
	if p.Type, err = unix.GetsockoptInt(p.FD.Int(), unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return p.Fail(fmt.Errorf("read SO_TYPE: %w", err))
	}
	if p.Protocol, err = unix.GetsockoptInt(p.FD.Int(), unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil {
		return p.Fail(fmt.Errorf("read SO_PROTOCOL: %w", err))
	}
	other, err := OtherNet(p.FD.Int())
	if err != nil {
		return p.Fail(err)
	}
	if other {
		return p.Refuse("it is of another network namespace than Glis's: run Glis in that namespace (nsenter -n)")
	}
	k, err := learn(p.Type, p.Protocol)
	if err != nil {
		return p.Fail(err)
	}
	if p.Opts, err = k.Save(p.FD.Int(), make([]Value, len(k.Table)), true); err != nil {
		return p.Fail(err)
	}
	p.Owner, err = file.ReadOwner(p.Env, p.File, p.FD)
	return err
}

// lookInside reads what no system call tells.
func (p *Plain) lookInside(shared *kmem.Shared) error {
	m, err := shared.Reader()
	if errors.Is(err, kmem.ErrUnavailable) {
		p.hidden = err
		return nil
	}
	at, err := m.Sock(p.FD.Int())
	if err == nil {
		p.Sock, err = m.Struct("sock", at)
	}
	if err == nil {
		err = ReadUnseen(p.Sock, m, p.More)
	}
	if err != nil {
		return p.Fail(err)
	}
	return Keep(p.Env, p.File, p.More.Filter)
}

// Refuse says that the socket can't be carried over.
func (p *Plain) Refuse(why string, args ...any) error {
	return kind.Unsupported(fmt.Sprintf("%v: %s", p.File, Describe(p.FD)), why, args...)
}

// Fail adds to an error which socket it is about, which one of Refuse says itself.
func (p *Plain) Fail(err error) error {
	if err == nil || errors.Is(err, kind.ErrUnsupported) {
		return err
	}
	return fmt.Errorf("%v: %s: %w", p.File, Describe(p.FD), err)
}

// Empty refuses a socket with something in its queue, or an error that waits.
func (p *Plain) Empty() error {
	waits, err := p.Waits()
	if err == nil && waits && p.hidden != nil {
		return p.Refuse("messages are in its queue, which can't be looked at without taking them (%v): let the process read them first", p.hidden)
	}
	if err == nil && waits {
		return p.Refuse("messages are in its queue, which can't be looked at without taking them: let the process read them first")
	}
	return err
}

// Waits tells whether something is in its queue; an error that waits is refused.
func (p *Plain) Waits() (bool, error) {
	look := []unix.PollFd{{Fd: int32(p.FD.Int()), Events: unix.POLLIN}}
	if _, err := linux.PollNow(look); err != nil {
		return false, p.Fail(fmt.Errorf("poll: %w", err))
	}
	waits := look[0].Revents&unix.POLLIN != 0
	if p.Sock != nil { // one that was shut down can be read from, too
		waits = p.Sock.Pointer("sock.sk_receive_queue") != p.Sock.In("sock.sk_receive_queue").At
	}
	if look[0].Revents&unix.POLLERR != 0 && !p.ErrorsKept {
		return false, p.Refuse("an error waits to be reported (SO_ERROR, MSG_ERRQUEUE): let the process read it first")
	}
	return waits, nil
}

// mostQueued is how many messages a queue may have.
const mostQueued = 1 << 20

// Queue calls fn with every message that waits, in order. The kernel's memory is
// read, so nothing is taken; where it can't be, messages are refused.
func (p *Plain) Queue(m *kmem.Shared, fn func(*kmem.Reader, *kmem.Buffer) error) error {
	waits, err := p.Waits()
	if err != nil || !waits {
		return err
	}
	r, err := m.Reader()
	if err != nil || p.Sock == nil {
		return p.Empty()
	}
	return r.Buffers(p.Sock.In("sock.sk_receive_queue").At, mostQueued, func(b *kmem.Buffer) error { return fn(r, b) })
}

// Put writes what criu's entry has no place for.
func (p *Plain) Put() error {
	p.More.Options, p.More.Inode = p.Opts.Options, InodeOf(&p.File.Stat)
	if proto.Size(p.More) == 0 {
		return nil
	}
	p.More.Id = &p.File.ID
	return p.Env.Images.Put(extra.Sockets, p.More, nil)
}

// PlainNode is such a socket in a restore.
type PlainNode struct {
	Self  plan.ID
	Flags uint32
	Owner file.Owner
	More  *extra.SocketEntry // nil: nothing
	Opts  Saved
	New   func() (*fd.FD, error) // makes the socket; nil: as it is usual
}

// NewPlainNode checks what entries of all families have: outer is the number of
// the file, inner what its own entry calls it.
func NewPlainNode(outer, inner, flags uint32, own *fown.FownEntry, more *extra.SocketEntry, load *Loader, e Entries) (n PlainNode, err error) {
	if inner != outer {
		return n, fmt.Errorf("inside it is called %#x", inner)
	}
	n = PlainNode{Self: plan.ID(inner), Flags: flags, More: more}
	if n.Owner, err = file.PlanOwner(own); err != nil {
		return n, err
	}
	if n.Opts, err = load.Load(e, more.GetOptions()); err == nil {
		err = CheckUnseen(more)
	}
	return n, err
}

// ID implements plan.Node.
func (n *PlainNode) ID() plan.ID { return n.Self }

// Needs implements plan.Node.
func (n *PlainNode) Needs() []plan.ID { return nil }

// Check implements plan.Checked.
func (n *PlainNode) Check(*plan.CheckEnv) error { return FindProgram(n.More.GetFilter()) }

// Follow implements plan.Follower.
func (n *PlainNode) Follow() error { return LetGo(n.More.GetFilter()) }

// Make makes the socket; bind gives it its address between the options that
// it depends on and those that come late.
func (n *PlainNode) Make(family, typ, protocol int, k *Kernel, bind func(own int) error) (*fd.FD, error) {
	own, err := n.fresh(family, typ, protocol)
	if err != nil {
		return nil, err
	}
	err = n.Begin(own, k)
	if err == nil {
		err = n.Complete(own, k, bind)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// fresh makes a new socket.
func (n *PlainNode) fresh(family, typ, protocol int) (*fd.FD, error) {
	if n.New != nil {
		return n.New()
	}
	num, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	return fd.New(num), nil
}

// Begin is the first part of Make, for a new socket: what comes before its queue
// is filled.
func (n *PlainNode) Begin(own *fd.FD, k *Kernel) error {
	if err := SetInode(own.Int(), n.More.GetInode()); err != nil {
		return err
	}
	return k.Set(own.Int(), n.Opts.Values, Early, Early)
}

// Complete is the rest of Make. touched are options that have been changed
// meanwhile.
func (n *PlainNode) Complete(own *fd.FD, k *Kernel, bind func(own int) error, touched ...string) error {
	steps := []func() error{
		func() error { return Attach(own.Int(), n.Opts.Entry) },
		func() error { return AttachEBPF(own.Int(), n.More.GetFilter()) },
		func() error { return bind(own.Int()) },
		func() error { return k.Set(own.Int(), n.Opts.Values, Late, Last, touched...) },
		func() error { return SetUnseen(own.Int(), n.More) },
		func() error { return n.Owner.Set(own) },
		func() error { return SetFlags(own, n.Flags) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// FileFlags implements plan.Async.
func (n *PlainNode) FileFlags() uint32 { return n.Flags }

// SetFlags brings file flags back.
func SetFlags(own *fd.FD, flags uint32) error {
	if flags &^= unix.O_ACCMODE; flags == 0 {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(own.Int()), unix.F_SETFL, int(flags)); err != nil {
		return fmt.Errorf("set flags %#x: %w", flags, err)
	}
	return nil
}

// ReadExtras reads what criu's entries of sockets have no place for.
func ReadExtras(src plan.Source) (map[uint32]*extra.SocketEntry, error) {
	more, err := src.Entries(extra.Sockets)
	out := make(map[uint32]*extra.SocketEntry, len(more))
	for _, m := range more {
		e := m.Message.(*extra.SocketEntry)
		out[e.GetId()] = e
	}
	return out, err
}
