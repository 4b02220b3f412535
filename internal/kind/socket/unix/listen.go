package unix

import (
	"encoding/binary"
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// checkWaiting refuses a listener at which clients wait.
func (l *look) checkWaiting() error {
	if l.role != listener || l.u.RQueue == 0 {
		return nil
	}
	return l.refuse("%d connections to %s wait to be accepted, which isn't supported yet; let the server accept them, or end its clients", l.u.RQueue, nameString(l.u.Name))
}

// listener reads who called listen(2), see SO_PEERCRED and SO_PEERGROUPS
// (Linux 4.13) in unix(7).
func (l *look) listener() (*extra.SocketListener, error) {
	if l.role != listener {
		return nil, nil
	}
	who, err := sys.GetsockoptUcred(l.fd.Int(), sys.SOL_SOCKET, sys.SO_PEERCRED)
	if err != nil {
		return nil, l.fail(fmt.Errorf("read SO_PEERCRED: %w", err))
	}
	e := &extra.SocketListener{Pid: proto.Uint32(0), Uid: &who.Uid, Gid: &who.Gid}
	for _, t := range l.env.Tree.Tasks {
		if int32(t.PID) == who.Pid {
			e.Pid = proto.Uint32(uint32(t.VPID))
		}
	}
	buf := make([]byte, 4*maxGroups)
	n, err := linux.Getsockopt(l.fd.Int(), sys.SOL_SOCKET, sys.SO_PEERGROUPS, buf)
	if err != nil {
		return nil, l.fail(fmt.Errorf("read SO_PEERGROUPS: %w", err))
	}
	for b := buf[:n]; len(b) >= 4; b = b[4:] {
		e.Groups = append(e.Groups, binary.NativeEndian.Uint32(b))
	}
	return e, nil
}

// maxGroups is NGROUPS_MAX of include/uapi/linux/limits.h.
const maxGroups = 65536

// listen makes the socket listen, on behalf of the engine at first.
func (n *node) listen(fd int) error {
	if n.role != listener {
		return nil
	}
	return socket.Listen(fd, n.backlog)
}

// Finish implements plan.Member: a task that has the listener calls listen(2)
// once more, as the user who did it, since clients are told who that was. The
// task's own users come back later.
func (n *node) Finish(b plan.Batcher, number int32) error {
	if n.role != listener {
		return nil
	}
	listen := func() { b.Add("listen", sys.SYS_LISTEN, uint64(number), uint64(n.backlog)) }
	if n.opened == nil {
		listen()
		return nil
	}
	return n.as(b, listen)
}

// as queues what do queues as the user who called listen(2).
func (n *node) as(b plan.Batcher, do func()) error {
	const keep = ^uint64(0)
	uid, gid, euid, egid := n.opened.GetUid(), n.opened.GetGid(), uint32(sys.Geteuid()), uint32(sys.Getegid())
	own, err := sys.Getgroups()
	if err != nil {
		return fmt.Errorf("getgroups: %w", err)
	}
	if groups := n.opened.GetGroups(); !slices.EqualFunc(own, groups, func(a int, b uint32) bool { return uint32(a) == b }) {
		var list []byte
		for _, g := range groups {
			list = binary.NativeEndian.AppendUint32(list, g)
		}
		b.Add("setgroups", sys.SYS_SETGROUPS, uint64(len(groups)), b.Put(list))
	}
	if gid != egid {
		b.Add("setresgid", sys.SYS_SETRESGID, keep, uint64(gid), keep)
	}
	if uid != euid {
		b.Add("setresuid", sys.SYS_SETRESUID, keep, uint64(uid), keep)
	}
	do()
	if uid != euid {
		b.Add("setresuid", sys.SYS_SETRESUID, keep, uint64(euid), keep)
	}
	if gid != egid {
		b.Add("setresgid", sys.SYS_SETRESGID, keep, uint64(egid), keep)
	}
	return nil
}
