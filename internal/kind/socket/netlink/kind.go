// Package netlink is the kind of AF_NETLINK sockets, netlink(7).
package netlink

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	sk_netlink "glis.dev/glis/image/criu/sk-netlink"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Kind is netlink sockets in one dump or one restore.
type Kind struct {
	kernel *socket.Kernel
	mem    *kmem.Shared

	extras map[uint32]*extra.SocketEntry // nil: not read yet
	queued map[plan.ID][]*message
	nodes  map[name]*node
	load   socket.Loader
}

// New returns the kind for one dump or restore.
func New() *Kind { return &Kind{load: socket.Loader{Table: Table()}, nodes: map[name]*node{}} }

// Type implements kind.File.
func (*Kind) Type() fdinfo.FdTypes { return fdinfo.FdTypes_NETLINKSK }

// Match implements kind.File.
func (*Kind) Match(f *scan.File) bool {
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK && socket.IsFamily(f, unix.AF_NETLINK)
}

// Table is the options of netlink sockets, in the order in which they are set.
func Table() socket.Table {
	row := func(name string, opt, capability int) socket.Option {
		return socket.Option{Name: name, Level: unix.SOL_NETLINK, Opt: opt, Size: 4, When: socket.Late, Cap: capability}
	}
	t := append(socket.Common(), socket.Passing()...)
	t = append(t,
		row("NETLINK_PKTINFO", unix.NETLINK_PKTINFO, 0),
		row("NETLINK_BROADCAST_ERROR", unix.NETLINK_BROADCAST_ERROR, 0),
		row("NETLINK_NO_ENOBUFS", unix.NETLINK_NO_ENOBUFS, 0),
		row("NETLINK_LISTEN_ALL_NSID", unix.NETLINK_LISTEN_ALL_NSID, unix.CAP_NET_BROADCAST),
		row("NETLINK_CAP_ACK", unix.NETLINK_CAP_ACK, 0),
		row("NETLINK_EXT_ACK", unix.NETLINK_EXT_ACK, 0),
		row("NETLINK_GET_STRICT_CHK", unix.NETLINK_GET_STRICT_CHK, 0),
	)
	return append(t, socket.Ends()...)
}

// KernelNames implements kind.MemoryUser.
func (*Kind) KernelNames() []string { return append(socket.KernelNames(), queueNames()...) }

// UseMemory implements kind.MemoryUser.
func (k *Kind) UseMemory(m *kmem.Shared) { k.mem = m }

// learn returns the options that the kernel has: those of all protocols.
func (k *Kind) learn(int, int) (*socket.Kernel, error) {
	if k.kernel != nil {
		return k.kernel, nil
	}
	n, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer unix.Close(n)
	k.kernel, err = socket.NewKernel(Table(), n)
	return k.kernel, err
}

// States of netlink sockets, net/netlink/af_netlink.h.
const (
	unconnected = 0
	connected   = 1
)

// Dump implements kind.File.
func (k *Kind) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	p, err := socket.LookAt(env, f, k.mem, k.learn)
	if err != nil {
		return nil, err
	}
	defer p.FD.Close()
	if err := k.saveQueue(p); err != nil {
		return nil, err
	}
	e := &sk_netlink.NetlinkSkEntry{
		Id: &f.ID, Ino: proto.Uint32(uint32(f.Stat.Ino)), Protocol: proto.Uint32(uint32(p.Protocol)), State: proto.Uint32(unconnected),
		Flags: &f.Flags, Fown: p.Owner, Opts: p.Opts.Entry,
	}
	if err := addresses(p.FD.Int(), e); err != nil {
		return nil, p.Fail(err)
	}
	// Who is connected to the kernel, which has number 0, gets nothing of others.
	if p.Sock != nil && p.Sock.U8("sock_common.skc_state") == connected {
		e.State = proto.Uint32(connected)
	}
	if err := checkNetfilter(p, e.GetPortid()); err != nil {
		return nil, err
	}
	if p.Type != unix.SOCK_RAW {
		p.More.Type = proto.Uint32(uint32(p.Type)) // criu takes all for raw
	}
	return &fdinfo.FileEntry{Nlsk: e}, p.Put()
}

// addresses reads the number of the socket, whom it talks to, and what it
// listens to.
func addresses(fd int, e *sk_netlink.NetlinkSkEntry) error {
	own, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return fmt.Errorf("getpeername: %w", err)
	}
	at, ok := own.(*unix.SockaddrNetlink)
	to, isToo := peer.(*unix.SockaddrNetlink)
	if !ok || !isToo {
		return fmt.Errorf("its addresses are a %T and a %T", own, peer)
	}
	e.Portid = proto.Uint32(at.Pid)
	// Without groups there is no list either.
	if e.Groups, err = memberships(fd); err != nil {
		return err
	}
	e.DstPortid, e.DstGroup = proto.Uint32(to.Pid), proto.Uint32(uint32(bits.Len32(to.Groups)))
	if to.Pid != 0 || to.Groups != 0 {
		e.State = proto.Uint32(connected)
	}
	return nil
}

// memberships returns the groups that the socket is in, group 1 in bit 0 of the
// first word; nil if there are none (NETLINK_LIST_MEMBERSHIPS, Linux 4.2).
func memberships(fd int) ([]uint32, error) {
	buf := make([]byte, mostGroups/8)
	n, err := linux.Getsockopt(fd, unix.SOL_NETLINK, unix.NETLINK_LIST_MEMBERSHIPS, buf)
	if err != nil {
		return nil, fmt.Errorf("read NETLINK_LIST_MEMBERSHIPS: %w", err)
	}
	if n > len(buf) {
		return nil, fmt.Errorf("its protocol has %d groups, more than %d", 8*n, mostGroups)
	}
	var out []uint32
	for b := buf[:n&^3]; len(b) > 0; b = b[4:] {
		out = append(out, binary.NativeEndian.Uint32(b))
	}
	last := len(out)
	for last > 0 && out[last-1] == 0 {
		last--
	}
	return slices.Clip(out[:last]), nil
}

// mostGroups is how many groups a protocol may have here; generic netlink, which
// numbers them as families come, has the most.
const mostGroups = 1 << 16
