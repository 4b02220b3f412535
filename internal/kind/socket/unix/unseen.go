package unix

import (
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// What no option tells of a unix socket: SO_INQ, SO_BUSY_POLL_BUDGET, a filter
// of eBPF. The kernel's memory does.

// KernelNames implements kind.MemoryUser.
func (*Kind) KernelNames() []string {
	own := append(sockmem.LengthNames(), "unix_sock", "sk_buff_head.qlen", "sock_common.skc_hash", "?unix_sock.recvmsg_inq") // Linux 6.17
	return append(socket.KernelNames(), own...)
}

// UseMemory implements kind.MemoryUser.
func (k *Kind) UseMemory(m *kmem.Shared) { k.mem = m }

// memory returns what reads the kernel's memory, its own if it was given none.
func (k *Kind) memory() (*kmem.Reader, error) {
	if k.mem == nil {
		k.mem, k.own = kmem.Share(k.KernelNames()...), true
	}
	return k.mem.Reader()
}

// Close implements kind.Closer.
func (k *Kind) Close() error {
	for _, q := range k.queues { // those that were not written
		_ = q.release() // it was mapped
	}
	if !k.own {
		return nil
	}
	return k.mem.Close()
}

// unseen adds what no option tells.
func (k *Kind) unseen(l *look) error {
	if k.spare == nil {
		k.spare = &extra.SocketEntry{}
	}
	l.more, k.spare = k.spare, nil
	if l.skip.options || k.plain(l) {
		return nil
	}
	m, err := k.mem.Reader()
	if errors.Is(err, kmem.ErrUnavailable) {
		if l.opts.EBPF {
			return l.refuse(socket.WhyNoEBPF)
		}
		return nil
	}
	if err == nil {
		err = readUnseen(m, l.fd.Int(), l.more)
	}
	if err != nil {
		return l.fail(err)
	}
	return socket.Keep(l.env, l.file, l.more.Filter)
}

func readUnseen(m *kmem.Reader, fd int, e *extra.SocketEntry) error {
	at, err := m.Sock(fd)
	if err != nil {
		return err
	}
	s, err := m.Struct("unix_sock", at)
	if err != nil {
		return err
	}
	if m.Has("unix_sock.recvmsg_inq") && s.U8("unix_sock.recvmsg_inq") != 0 {
		e.Inq = proto.Bool(true)
	}
	return socket.ReadUnseen(s, m, e)
}

// glance is which sockets have nothing that no option tells: where a tree has
// enough of them that all were looked at at once.
type glance struct {
	reader *sockmem.TCPReader // nil: there is none
	plain  map[*scan.Task]map[int32]bool
}

// plain tells whether a socket is known to have nothing that no option tells.
func (k *Kind) plain(l *look) bool {
	g := &k.glance
	if g.reader == nil || l.file.Within != nil {
		return false
	}
	found, ok := g.plain[l.file.Task]
	if !ok {
		if g.plain == nil {
			g.plain = map[*scan.Task]map[int32]bool{}
		}
		found = k.glanceAt(l.env, l.file.Task)
		g.plain[l.file.Task] = found
	}
	return found[l.file.FD]
}

// glanceAt looks at all sockets of a task. What can't be looked at is looked at
// one by one.
func (k *Kind) glanceAt(env *kind.DumpEnv, t *scan.Task) map[int32]bool {
	m, err := k.mem.Reader()
	if err != nil {
		return nil
	}
	var places []sockmem.Span
	for _, x := range []struct {
		name string
		size int
	}{{"sock.sk_filter", 8}, {"sock.sk_busy_poll_budget", 2}, {"unix_sock.recvmsg_inq", 1}} {
		if m.Has(x.name) {
			places = append(places, sockmem.Span{At: int(m.Off(x.name)), Size: x.size})
		}
	}
	found := map[int32]bool{}
	err = k.glance.reader.Each(t.Pidfd.Int(), func(s sockmem.Socket) error {
		if s.Family == sys.AF_UNIX {
			found[s.FD] = zero(s.Sock, places)
		}
		return env.Check()
	})
	if err != nil {
		return nil
	}
	return found
}

// zero tells whether parts of a structure are there and 0.
func zero(b []byte, parts []sockmem.Span) bool {
	for _, p := range parts {
		if p.At+p.Size > len(b) {
			return false
		}
		for _, x := range b[p.At : p.At+p.Size] {
			if x != 0 {
				return false
			}
		}
	}
	return true
}

// checkUnseen refuses what an entry can't have.
func checkUnseen(typ int, e *extra.SocketEntry) error {
	switch {
	case len(e.GetPolicies()) > 0:
		return errors.New("a unix socket has no IPsec policies")
	case e.GetInq() && typ != sys.SOCK_STREAM:
		return fmt.Errorf("SO_INQ of a %s can't be", socket.TypeName(typ))
	}
	return socket.CheckUnseen(e)
}

// unseen returns what setUnseen needs of an entry, for good; nil if that is nothing.
func unseen(e *extra.SocketEntry) *extra.SocketEntry {
	if e == nil || !e.GetInq() && e.Filter == nil && e.GetBusyPollBudget() == 0 && len(e.Policies) == 0 {
		return nil
	}
	return &extra.SocketEntry{Inq: e.Inq, Filter: e.Filter, BusyPollBudget: e.BusyPollBudget, Policies: e.Policies}
}

// setUnseen brings back what readUnseen has read.
func (n *node) setUnseen(own int) error {
	if n.more.GetInq() {
		if err := sys.SetsockoptInt(own, sys.SOL_SOCKET, soInq, 1); err != nil {
			return fmt.Errorf("set SO_INQ (Linux 6.17): %w", err)
		}
	}
	return errors.Join(socket.AttachEBPF(own, n.more.GetFilter()), socket.SetUnseen(own, n.more))
}

// usual tells whether options tell all of a socket.
func (n *node) usual() bool {
	return !n.more.GetInq() && n.more.GetFilter() == nil && n.more.GetBusyPollBudget() == 0
}

// Follow implements plan.Follower.
func (n *node) Follow() error { return socket.LetGo(n.more.GetFilter()) }

var _ kind.MemoryUser = (*Kind)(nil)
