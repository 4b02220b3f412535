// Package lone is the kind of sockets of families that criu does not know and
// that talk to nobody yet: of vsock(7), bound or listening, and of AF_XDP. One row
// of families is one family.
package lone

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	ext_file "glis.dev/glis/image/criu/ext-file"
	"glis.dev/glis/image/criu/fdinfo"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// family is one that is carried over.
type family struct {
	number int
	types  []int
	table  socket.Table
	names  []string // members of structures that look reads
	// look refuses what can't be carried over, and says where it is bound and
	// whether it listens.
	look func(p *socket.Plain, m *kmem.Reader, e *extra.PlainSocket) error
	// check refuses an address that can't be.
	check func(address []byte) error
}

func families() []*family { return []*family{vsock(), xdp()} }

// Tables are the options of these families.
func Tables() (out []socket.Table) {
	for _, f := range families() {
		out = append(out, f.table)
	}
	return out
}

// Kind is such sockets in one dump or one restore.
type Kind struct {
	families []*family
	kernels  map[sort]*socket.Kernel
	mem      *kmem.Shared
	extras   map[uint32]*extra.SocketEntry // nil: not read yet
}

// New returns the kind for one dump or restore.
func New() *Kind { return &Kind{families: families(), kernels: map[sort]*socket.Kernel{}} }

// Type implements kind.File.
func (*Kind) Type() fdinfo.FdTypes { return fdinfo.FdTypes_EXT }

// Match implements kind.File.
func (k *Kind) Match(f *scan.File) bool {
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK && socket.IsFamily(f, k.numbers()...)
}

func (k *Kind) numbers() (out []int) {
	for _, f := range k.families {
		out = append(out, f.number)
	}
	return out
}

// KernelNames implements kind.MemoryUser.
func (k *Kind) KernelNames() []string {
	names := socket.KernelNames()
	for _, f := range k.families {
		names = append(names, f.names...)
	}
	return names
}

// UseMemory implements kind.MemoryUser.
func (k *Kind) UseMemory(m *kmem.Shared) { k.mem = m }

// of returns the family of a number, nil if it is none of these.
func (k *Kind) of(number int) *family {
	i := slices.IndexFunc(k.families, func(f *family) bool { return f.number == number })
	if i < 0 {
		return nil
	}
	return k.families[i]
}

// sort is a family and a type: of datagrams vsock has no options.
type sort struct{ family, typ int }

// kernel returns the options that the kernel has.
func (k *Kind) kernel(f *family, typ, protocol int) (*socket.Kernel, error) {
	s := sort{f.number, typ}
	if k.kernels[s] != nil {
		return k.kernels[s], nil
	}
	n, err := unix.Socket(f.number, typ|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer unix.Close(n)
	k.kernels[s], err = socket.NewKernel(f.table, n)
	return k.kernels[s], err
}

// Dump implements kind.File.
func (k *Kind) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	its := k.of(int(f.Family))
	p, err := socket.LookAt(env, f, k.mem, func(typ, protocol int) (*socket.Kernel, error) { return k.kernel(its, typ, protocol) })
	if err != nil {
		return nil, err
	}
	defer p.FD.Close()
	m, err := k.mem.Reader()
	if err != nil || p.Sock == nil {
		return nil, p.Refuse("whether it talks to anybody can't be known (%v); let the process close it first", err)
	}
	if !slices.Contains(its.types, p.Type) {
		return nil, p.Refuse("sockets of this type aren't carried over yet; let the process close it first")
	}
	if err := p.Empty(); err != nil {
		return nil, err
	}
	opts, err := proto.Marshal(p.Opts.Entry)
	if err != nil {
		return nil, p.Fail(err)
	}
	number := func(n int) *uint32 { return proto.Uint32(uint32(n)) }
	p.More.Plain = &extra.PlainSocket{Family: number(its.number), Type: number(p.Type), Protocol: number(p.Protocol), Flags: &f.Flags, Options: opts}
	if err := its.look(p, m, p.More.Plain); err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Ext: &ext_file.ExtFileEntry{Id: &f.ID, Fown: p.Owner}}, p.Put()
}

// node is such a socket in a restore.
type node struct {
	socket.PlainNode
	kind  *Kind
	its   *family
	entry *extra.PlainSocket
}

// Plan implements kind.File.
func (k *Kind) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	if k.extras == nil {
		var err error
		if k.extras, err = socket.ReadExtras(p.Source); err != nil {
			return err
		}
	}
	n, err := k.node(e)
	if err != nil {
		return fmt.Errorf("files.img: file %#x: %w", e.GetId(), err)
	}
	return p.Add(n)
}

// mostBacklog is what no listener has (int).
const mostBacklog = 1<<31 - 1

func (k *Kind) node(e *fdinfo.FileEntry) (*node, error) {
	in, more := e.GetExt(), k.extras[e.GetId()]
	if in == nil {
		return nil, errors.New("its entry is missing")
	}
	x := more.GetPlain()
	if x == nil {
		return nil, fmt.Errorf("%w: it is a file of a plugin of criu's", kind.ErrUnsupported)
	}
	n := &node{kind: k, its: k.of(int(x.GetFamily())), entry: x}
	switch {
	case n.its == nil || !slices.Contains(n.its.types, int(x.GetType())) || x.GetProtocol() != 0:
		return nil, fmt.Errorf("%w: %s %s of protocol %d", kind.ErrUnsupported, socket.FamilyName(int(x.GetFamily())), socket.TypeName(int(x.GetType())), x.GetProtocol())
	case x.GetBacklog() > mostBacklog || x.Backlog != nil && x.Address == nil:
		return nil, fmt.Errorf("a listener with a backlog of %d and an address of %d bytes can't be", x.GetBacklog(), len(x.GetAddress()))
	}
	if x.Address != nil {
		if err := n.its.check(x.Address); err != nil {
			return nil, err
		}
	}
	opts := &sk_opts.SkOptsEntry{}
	if err := proto.Unmarshal(x.GetOptions(), opts); err != nil {
		return nil, fmt.Errorf("its options: %w", err)
	}
	var err error
	n.PlainNode, err = socket.NewPlainNode(e.GetId(), in.GetId(), x.GetFlags(), in.GetFown(), more, &socket.Loader{Table: n.its.table}, socket.Entries{Sock: opts})
	return n, err
}

// String implements plan.Node.
func (n *node) String() string {
	s := fmt.Sprintf("%s %s", socket.FamilyName(n.its.number), socket.TypeName(int(n.entry.GetType())))
	if n.entry.Address != nil {
		s += fmt.Sprintf(" at %x", n.entry.GetAddress())
	}
	return s
}

// Create implements plan.Node.
func (n *node) Create(context.Context, *plan.Env) (*fd.FD, error) {
	k, err := n.kind.kernel(n.its, int(n.entry.GetType()), int(n.entry.GetProtocol()))
	if err != nil {
		return nil, err
	}
	return n.Make(n.its.number, int(n.entry.GetType()), int(n.entry.GetProtocol()), k, n.bind)
}
