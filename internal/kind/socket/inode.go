package socket

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/scan"
)

// AllPermissions are those of a new socket.
const AllPermissions = 0o777

// InodeOf returns who a socket belongs to and its permissions, nil if it is
// root's with all of them. The kernel lets sockets of one user share a port,
// firewalls look at the user, and a path that the socket is bound to gets its
// permissions.
func InodeOf(st *scan.Stat) *extra.SocketInode {
	mode := st.Mode &^ unix.S_IFMT
	if st.UID == 0 && st.GID == 0 && mode == AllPermissions {
		return nil
	}
	return &extra.SocketInode{Uid: proto.Uint32(st.UID), Gid: proto.Uint32(st.GID), Mode: proto.Uint32(mode)}
}

// RootsInode is what InodeOf returns nil for.
func RootsInode() *extra.SocketInode {
	return &extra.SocketInode{Uid: proto.Uint32(0), Gid: proto.Uint32(0), Mode: proto.Uint32(AllPermissions)}
}

// SetInode is the inverse of InodeOf.
func SetInode(fd int, e *extra.SocketInode) error {
	if e == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if st.Uid != e.GetUid() || st.Gid != e.GetGid() {
		if err := unix.Fchown(fd, int(e.GetUid()), int(e.GetGid())); err != nil {
			return fmt.Errorf("make it belong to user %d, group %d: %w", e.GetUid(), e.GetGid(), err)
		}
	}
	if st.Mode&^unix.S_IFMT == e.GetMode() {
		return nil
	}
	if err := unix.Fchmod(fd, e.GetMode()&^unix.S_IFMT); err != nil {
		return fmt.Errorf("set its permissions %#o: %w", e.GetMode(), err)
	}
	return nil
}
