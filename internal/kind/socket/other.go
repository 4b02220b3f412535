package socket

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Others returns a kind for every sort of socket in images none of which can be
// carried over yet, and one for those that images have no place for: they
// refuse by name. They come after the kinds that can.
func Others() []kind.File {
	return []kind.File{
		&other{fdinfo.FdTypes_UND, nil},
	}
}

// other is sockets of some families, of all if there are none.
type other struct {
	typ      fdinfo.FdTypes
	families []int
}

// Type implements kind.File.
func (o *other) Type() fdinfo.FdTypes { return o.typ }

// Match implements kind.File.
func (o *other) Match(f *scan.File) bool {
	if f.Flags&unix.O_PATH != 0 && strings.HasPrefix(f.Link, "/") {
		return false // the path of one: see file.Regular
	}
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK && (len(o.families) == 0 || IsFamily(f, o.families...))
}

// Dump implements kind.File.
func (o *other) Dump(_ context.Context, _ *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	if f.Flags&unix.O_PATH != 0 {
		return nil, kind.Unsupported(f, "it is a socket that was opened with O_PATH by way of its descriptor (/proc/PID/fd), and isn't opened again yet; let the process close it first")
	}
	if f.NoFamily != nil {
		return nil, NoFamily(f)
	}
	if f.FD < 0 {
		return nil, kind.Unsupported(f, "a socket that is no descriptor")
	}
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return nil, kind.Unsupported(f, "%s; let the process close it before the dump", Describe(d))
}

// Plan implements kind.File.
func (o *other) Plan(_ *plan.Plan, e *fdinfo.FileEntry) error {
	return fmt.Errorf("files.img: file %#x: %w: sockets of type %v can't be restored yet", e.GetId(), kind.ErrUnsupported, o.typ)
}

// IsFamily tells whether a file is a socket of one of these address families. If
// that can't be told it is of none, and the last kind says why.
func IsFamily(f *scan.File, families ...int) bool {
	if f.FD < 0 || f.NoFamily != nil || f.Flags&unix.O_PATH != 0 {
		return false
	}
	if f.Family == unix.AF_UNSPEC {
		f.Family, f.NoFamily = askFamily(f)
	}
	return f.NoFamily == nil && slices.Contains(families, int(f.Family))
}

// NoFamily is the error of a socket of which that can't be told.
func NoFamily(f *scan.File) error {
	return fmt.Errorf("%s: which family the socket has can't be told: %w", f, f.NoFamily)
}

func askFamily(f *scan.File) (int32, error) {
	d, err := f.Borrow()
	if err != nil {
		return unix.AF_UNSPEC, err
	}
	defer d.Close()
	family, err := unix.GetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return unix.AF_UNSPEC, fmt.Errorf("read SO_DOMAIN: %w", err)
	}
	return int32(family), nil
}

// Describe says which family, type, protocol and state a socket has, and the
// addresses it has.
func Describe(d *fd.FD) string {
	n := d.Int()
	family := option(n, unix.SO_DOMAIN)
	s := fmt.Sprintf("%s %s of protocol %d", FamilyName(family), TypeName(option(n, unix.SO_TYPE)), option(n, unix.SO_PROTOCOL))
	inet := family == unix.AF_INET || family == unix.AF_INET6
	if info, err := unix.GetsockoptTCPInfo(n, unix.IPPROTO_TCP, unix.TCP_INFO); inet && err == nil {
		s += " in state " + StateName(int(info.State))
	} else if option(n, unix.SO_ACCEPTCONN) == 1 {
		s += " in state " + StateName(10)
	}
	if sa, err := unix.Getsockname(n); err == nil {
		s += " at " + addressString(sa)
	}
	if sa, err := unix.Getpeername(n); err == nil {
		s += " connected to " + addressString(sa)
	}
	return s
}

// option returns an int option, or -1.
func option(fd, name int) int {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
	if err != nil {
		return -1
	}
	return v
}

func addressString(sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrNetlink:
		return fmt.Sprintf("port %d, groups %#x", a.Pid, a.Groups)
	case *unix.SockaddrLinklayer:
		return fmt.Sprintf("interface %d, protocol %#04x", a.Ifindex, a.Protocol<<8|a.Protocol>>8)
	case *unix.SockaddrVM:
		return fmt.Sprintf("%d:%d", a.CID, a.Port)
	}
	return fmt.Sprintf("an address of type %T", sa)
}
