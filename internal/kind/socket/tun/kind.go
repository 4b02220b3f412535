// Package tun is the kind of descriptors of /dev/net/tun: queues of tun and tap
// interfaces, see Documentation/networking/tuntap.rst in the kernel.
//
// What the interface is and has (addresses, routes, owner, group, sizes, offloads,
// programs) is the kernel's. It would go with its last queue, so before the tree is
// killed it is made to stay (TUNSETPERSIST), and a restore takes that back.
package tun

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/tun"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
)

// Kind is such descriptors in one dump or one restore.
type Kind struct {
	mem    *kmem.Shared
	extras map[uint32]*extra.SocketEntry // nil: not read yet
	queues map[string][]*node            // by interface
}

// New returns the kind for one dump or restore.
func New() *Kind { return &Kind{queues: map[string][]*node{}} }

// Type implements kind.File.
func (*Kind) Type() fdinfo.FdTypes { return fdinfo.FdTypes_TUNF }

// device is /dev/net/tun: TUN_MINOR of include/linux/miscdevice.h.
var device = unix.Mkdev(10, 200)

// Match implements kind.File.
func (*Kind) Match(f *scan.File) bool {
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && f.Stat.Rdev == device && f.FD >= 0 && f.Flags&unix.O_PATH == 0
}

// KernelNames implements kind.MemoryUser; they are there where it is no module.
func (*Kind) KernelNames() []string { return []string{"?tun_file", "?tun_file.queue_index"} }

// UseMemory implements kind.MemoryUser.
func (k *Kind) UseMemory(m *kmem.Shared) { k.mem = m }

// features are what TUNSETIFF takes besides the type: TUN_FEATURES of
// drivers/net/tun.c.
const features = unix.IFF_NO_PI | unix.IFF_ONE_QUEUE | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE | unix.IFF_NAPI | unix.IFF_NAPI_FRAGS

// look is one descriptor while it is looked at.
type look struct {
	kind  *Kind
	env   *kind.DumpEnv
	file  *scan.File
	fd    *fd.FD
	entry *tun.TunfileEntry
	more  *extra.TunFile
}

// Dump implements kind.File.
func (k *Kind) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l := &look{kind: k, env: env, file: f, fd: d, entry: &tun.TunfileEntry{Id: &f.ID}, more: &extra.TunFile{Path: &f.Link, Flags: &f.Flags}}
	own, err := file.ReadOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	if l.more.Owner, err = proto.Marshal(own); err != nil {
		return nil, err
	}
	other, err := socket.OtherNet(d.Int())
	if err == nil && other {
		return nil, l.refuse("it is of another network namespace than Glis's: run Glis in that namespace (nsenter -n)")
	}
	if err == nil {
		err = isDevice(f.Link)
		if err != nil {
			return nil, l.refuse("it can't be opened again by its path: %v; put it back, or let the program close it", err)
		}
		err = l.attached()
	}
	if errors.Is(err, kind.ErrUnsupported) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	return &fdinfo.FileEntry{Tunf: l.entry}, env.Images.Put(extra.Sockets, &extra.SocketEntry{Id: &f.ID, Tun: l.more}, nil)
}

func (l *look) refuse(why string, args ...any) error { return kind.Unsupported(l.file, why, args...) }

// isDevice makes sure that a path leads to /dev/net/tun.
func isDevice(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != device {
		return fmt.Errorf("%s is something else by now", path)
	}
	return nil
}

// moved refuses a queue whose interface was moved to another network namespace,
// where Glis would look at another one of its name.
func (l *look) moved(name string) error {
	other, err := socket.OtherNetBy(l.fd.Int(), unix.TUNGETDEVNETNS, "TUNGETDEVNETNS")
	if err == nil && other {
		return l.refuse("its interface %s was moved to another network namespace than it was made in, which isn't supported yet; let the program make it there", name)
	}
	return err
}

// attached reads which interface it is a queue of.
func (l *look) attached() error {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	err = unix.IoctlIfreq(l.fd.Int(), unix.TUNGETIFF, ifr)
	if errors.Is(err, unix.EBADFD) {
		return l.free()
	}
	if err != nil {
		return fmt.Errorf("TUNGETIFF: %w", err)
	}
	name, flags := ifr.Name(), ifr.Uint16()
	if err := l.moved(name); err != nil {
		return err
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("interface %q: %w", name, err)
	}
	link, err := linux.ReadTunLink(i.Index)
	if err != nil {
		return fmt.Errorf("interface %q: %w", name, err)
	}
	// It says the same of a queue without a filter.
	if flags &^= unix.IFF_NO_PI; !link.PI {
		flags |= unix.IFF_NO_PI
	}
	n, err := linux.TunFilter(l.fd.Int())
	if err != nil && !errors.Is(err, unix.EINVAL) { // only a tap has one
		return err
	}
	if n != 0 {
		return l.refuse("interface %s has a filter (TUNATTACHFILTER), which isn't supported yet; let the program detach it, and make the interface anew", name)
	}
	detached := flags&unix.IFF_DETACH_QUEUE != 0
	l.entry.Netdev, l.entry.Detached = &name, &detached
	l.more.Interface = proto.Uint32(uint32(flags & (features | unix.IFF_TUN | unix.IFF_TAP)))
	size, err := unix.IoctlGetInt(l.fd.Int(), unix.TUNGETSNDBUF)
	if err != nil {
		return fmt.Errorf("TUNGETSNDBUF: %w", err)
	}
	l.more.SendBuffer = proto.Uint32(uint32(size))
	if !link.Persist {
		l.more.Lends = proto.Bool(true)
		if err := l.env.Guard.Leave(l.file, persist(1), persist(0)); err != nil {
			return err
		}
	}
	return l.index(link)
}

// persist has the interface stay without queues, or go with its last one.
func persist(on int) linux.SockOpt {
	return linux.SockOpt{Level: linux.LevelIoctl, Name: unix.TUNSETPERSIST, Value: on}
}

// tunFile reads what no call tells of a queue: which one it is, or, of one that is
// attached to nothing, which number its interface is to have.
func (l *look) tunFile() (s *kmem.Struct, ok bool, err error) {
	m, err := l.kind.mem.Reader()
	if err != nil || !m.Has("tun_file.queue_index") {
		return nil, false, nil
	}
	at, err := m.PrivateOf(l.fd.Int())
	if err == nil {
		s, err = m.Struct("tun_file", at)
	}
	return s, err == nil, err
}

// free is of one that is attached to nothing.
func (l *look) free() error {
	s, ok, err := l.tunFile()
	if err != nil || !ok {
		return err
	}
	if n := s.U32("tun_file.queue_index"); n != 0 { // they share a place
		return l.refuse("its interface is to have number %d (TUNSETIFINDEX), which isn't supported yet; let the program make it first", n)
	}
	return nil
}

// index reads which queue it is, if there are several.
func (l *look) index(link linux.TunLink) error {
	if link.Queues+link.Disabled < 2 || l.entry.GetDetached() {
		return nil
	}
	s, ok, err := l.tunFile()
	if err != nil {
		return err
	}
	if !ok {
		return l.refuse("interface %s has %d queues, and which of them this one is can't be known, since the kernel's memory can't be read (CAP_BPF, BTF) or tun is a module; let the program have one only", l.entry.GetNetdev(), link.Queues)
	}
	l.more.Index = proto.Uint32(uint32(s.U16("tun_file.queue_index")))
	return nil
}
