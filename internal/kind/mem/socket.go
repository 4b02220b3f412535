package mem

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// A packet socket shares its ring with whoever maps the socket. What is in it
// belongs to the socket, which brings it back; here it is only mapped again.

func isSocketMap(v *proc.VMA) bool { return strings.HasPrefix(v.Name, "socket:[") }

// OfSockets returns the mappings of sockets: what their rings are compared with
// when all others are described.
func OfSockets(vmas []proc.VMA) (out []proc.VMA) {
	for i := range vmas {
		if isSocketMap(&vmas[i]) {
			out = append(out, vmas[i])
		}
	}
	return out
}

// socketMap describes a mapping of a packet socket.
func (s *Space) socketMap(env *kind.DumpEnv, v *proc.VMA, a *area) error {
	refuse := func(why string) error {
		return kind.Unsupported(fmt.Sprintf("%v, memory %v", s.task, v), "%s", why)
	}
	f := socketOf(env.Tree, v)
	if f == nil {
		return refuse("it is the ring of a socket that is closed; unmap it, or keep the descriptor")
	}
	d, err := f.Borrow()
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // only asked
	family, err := unix.GetsockoptInt(d.Int(), unix.SOL_SOCKET, unix.SO_DOMAIN)
	switch {
	case err != nil:
		return fmt.Errorf("memory %v: read SO_DOMAIN: %w", v, err)
	case family != unix.AF_PACKET:
		return refuse("it is the memory of a socket that is no packet socket (TCP_ZEROCOPY_RECEIVE, AF_XDP); unmap it")
	}
	own, err := s.ownPages(v)
	switch {
	case err != nil:
		return fmt.Errorf("memory %v: %w", v, err)
	case own:
		return refuse("it is a private mapping of a packet socket's ring that the process has written to; map it as shared")
	}
	a.status, a.file, a.access = statusRegular|statusSocket, plan.ID(f.ID), unix.O_RDWR
	return nil
}

// ownPages tells whether the process has pages of its own in a private mapping.
func (s *Space) ownPages(v *proc.VMA) (own bool, err error) {
	if v.Shared {
		return false, nil
	}
	sc, err := pages.OpenScanner(s.task.Dir)
	if err != nil {
		return false, err
	}
	defer sc.Close() //nolint:errcheck // only read from
	all := []pages.Area{{Span: pages.Span{Start: v.Start, End: v.End}}}
	return own, sc.Scan(all, func(int, pages.Span, bool) { own = true })
}

// socketOf finds the socket that is mapped: a descriptor of it has its inode.
func socketOf(t *scan.Tree, v *proc.VMA) *scan.File {
	for _, f := range t.Files {
		if f.FD >= 0 && f.Stat.Ino == v.Inode && f.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK && f.Flags&unix.O_PATH == 0 {
			return f
		}
	}
	return nil
}

// checkSocket refuses what a mapping of a packet socket can't be. How large the
// ring is the kernel knows: it maps no part of one.
func (a *area) checkSocket() error {
	a.access = unix.O_RDWR // criu does not say
	share := a.flags & (unix.MAP_SHARED | unix.MAP_PRIVATE)
	if a.offset != 0 || a.flags&(unix.MAP_ANONYMOUS|hugeFlags) != 0 || share != unix.MAP_SHARED && share != unix.MAP_PRIVATE {
		return fmt.Errorf("flags %#x and offset %d are none of a packet socket's ring", a.flags, a.offset)
	}
	return nil
}
