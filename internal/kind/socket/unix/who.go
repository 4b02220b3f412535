package unix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"glis.dev/glis/image/proto"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// maxGroups is NGROUPS_MAX of include/uapi/linux/limits.h.
const maxGroups = 65536

// maxPID is PID_MAX_LIMIT of include/linux/threads.h on 64 bits.
const maxPID = 1 << 22

// who returns the number of who the socket's peer is, as it tells by
// SO_PEERCRED and SO_PEERGROUPS (Linux 4.13), see unix(7); 0 if it tells
// nobody.
func (k *Kind) who(l *look) (uint32, error) {
	if h := l.unheld; h != nil {
		if h.Who.Uid == math.MaxUint32 || l.role == alone && h.Who.Pid == 0 {
			return 0, nil
		}
		return k.number(l, &h.Who, groupBytes(h.Groups))
	}
	if l.skip.known {
		return l.skip.number, nil
	}
	n, err := k.askWho(l)
	if err == nil && l.skip.seen {
		k.seen.peers[l.skip.peer] = n
	}
	return n, err
}

func (k *Kind) askWho(l *look) (uint32, error) {
	cred, err := sys.GetsockoptUcred(l.fd.Int(), sys.SOL_SOCKET, sys.SO_PEERCRED)
	if err != nil {
		return 0, l.fail(fmt.Errorf("read SO_PEERCRED: %w", err))
	}
	if cred.Uid == math.MaxUint32 || l.role == alone && cred.Pid == 0 {
		return 0, nil
	}
	if k.groups == nil {
		k.groups = make([]byte, 4*maxGroups)
	}
	n, err := linux.Getsockopt(l.fd.Int(), sys.SOL_SOCKET, sys.SO_PEERGROUPS, k.groups)
	if err != nil && !errors.Is(err, sys.ENODATA) {
		return 0, l.fail(fmt.Errorf("read SO_PEERGROUPS: %w", err))
	}
	return k.number(l, cred, k.groups[:n])
}

// identityKey is an identity to look it up by.
type identityKey struct {
	cred   sys.Ucred
	groups string
}

// number returns the number of an identity, which it writes down the first
// time.
func (k *Kind) number(l *look, cred *sys.Ucred, groups []byte) (uint32, error) {
	key := identityKey{*cred, string(groups)}
	if n := k.known[key]; n != 0 {
		return n, nil
	}
	e := &extra.SocketIdentity{Pid: proto.Uint32(k.process(l, cred.Pid)), Uid: &key.cred.Uid, Gid: &key.cred.Gid}
	for b := groups; len(b) >= 4; b = b[4:] {
		e.Groups = append(e.Groups, binary.NativeEndian.Uint32(b))
	}
	n := uint32(len(k.known)) + 1
	k.known[key] = n
	return n, l.env.Images.Put(extra.Identities, e, nil)
}

// process returns how the images number a process that a socket tells: one
// that is gone keeps its number, one outside of the tree has none.
func (k *Kind) process(l *look, pid int32) uint32 {
	for _, t := range l.env.Tree.Tasks {
		if int32(t.PID) == pid {
			return uint32(t.VPID)
		}
	}
	if pid <= 0 || sys.Kill(int(pid), 0) != sys.ESRCH {
		return 0
	}
	return uint32(pid)
}

// identityOf checks an identity from an image.
func identityOf(e *extra.SocketIdentity) (*plan.Identity, error) {
	switch {
	case e.GetPid() > maxPID, e.GetUid() == math.MaxUint32, e.GetGid() == math.MaxUint32, len(e.GetGroups()) > maxGroups:
		return nil, fmt.Errorf("process %d, user %d, group %d and %d more can't be", e.GetPid(), e.GetUid(), e.GetGid(), len(e.GetGroups()))
	}
	groups := e.GetGroups()
	if groups == nil {
		groups = []uint32{}
	}
	return &plan.Identity{PID: e.GetPid(), UID: e.GetUid(), GID: e.GetGid(), Groups: groups}, nil
}
