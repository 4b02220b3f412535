package unix

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/sockdiag"
)

// waiting returns how many connections may wait at one of our listeners.
func (k *Kind) waiting() int { return min(mayWait(), atOnce) }

// mayWait returns how many connections may wait at any listener: others may connect to one
// of ours as well, by its abstract name, and are not to take the room.
func mayWait() int {
	if n, err := socket.Somaxconn(); err == nil {
		return max(1, n)
	}
	return 1
}

// connectAll makes connections of which both ends are made by the same
// processes, to one listener.
func (k *Kind) connectAll(ctx context.Context, env *plan.Env, links []*link) error {
	typ, first := links[0].a.typ, links[0].ends()
	s, err := sys.Socket(sys.AF_UNIX, typ|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	door := fd.New(s)
	defer door.Close()
	if err := k.temporarily(s, first.serverName); err != nil {
		return err
	}
	if err := k.listenAs(ctx, env, first.listen, s, mayWait()); err != nil {
		return err
	}
	clients, err := k.clients(links)
	if err != nil {
		return err
	}
	if err := unhurried(clients, func() error { return k.connect(ctx, env, first.connect, door, first.serverName, clients) }); err != nil {
		return err
	}
	for i, l := range links {
		if err := k.accept(door, l, clients[i]); err != nil {
			return err
		}
	}
	return nil
}

// clients makes the sockets that connect.
func (k *Kind) clients(links []*link) ([]*fd.FD, error) {
	var out []*fd.FD
	for _, l := range links {
		s, err := sys.Socket(sys.AF_UNIX, l.a.typ|sys.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
		own, e := fd.New(s), l.ends()
		out = append(out, own)
		if e.client != nil {
			if err = e.client.dress(own); err == nil && e.client.early != 0 {
				err = shutdown(own, e.client.early)
			}
		} else {
			e.server.mate = own
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unhurried sees that nobody waits who connects sockets: for room at a listener that would
// be for ever.
func unhurried(clients []*fd.FD, connect func() error) error {
	set := func(nonblocking bool) (err error) {
		for _, c := range clients {
			err = errors.Join(err, sys.SetNonblock(c.Int(), nonblocking))
		}
		return err
	}
	if err := set(true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	if err := connect(); err != nil {
		if errors.Is(err, sys.EAGAIN) {
			return fmt.Errorf("more wait than net.core.somaxconn allows, or others connect all the time; raise it: %w", err)
		}
		return err
	}
	if err := set(false); err != nil {
		return fmt.Errorf("clear O_NONBLOCK: %w", err)
	}
	return nil
}

// connect connects sockets to a listener of ours.
func (k *Kind) connect(ctx context.Context, env *plan.Env, who plan.Identity, door *fd.FD, name []byte, clients []*fd.FD) error {
	if !isPath(name) {
		return k.connectAs(ctx, env, who, name, nil, clients)
	}
	file, err := boundFile(door.Int())
	if err != nil {
		return err
	}
	defer file.Close()
	return k.connectAs(ctx, env, who, name, file, clients)
}

// connectAs has somebody connect sockets to an abstract name, or to a file.
func (k *Kind) connectAs(ctx context.Context, env *plan.Env, who plan.Identity, name []byte, file *fd.FD, clients []*fd.FD) error {
	lend := []int{}
	for _, c := range clients {
		if env.As == nil {
			if err := linux.Connect(c.Int(), (&address{name: name}).through(file)); err != nil {
				return fmt.Errorf("connect to %s: %w", nameString(name), err)
			}
		}
		lend = append(lend, c.Int())
	}
	if env.As == nil {
		return nil
	}
	if file != nil {
		lend = append(lend, file.Int())
	}
	_, err := env.As(ctx, who, lend, func(m plan.Making) {
		at := (&address{name: name}).sockaddr()
		if file != nil {
			at = reachable(int(m.Lent(len(clients))))
		}
		where := m.Put(at)
		for i := range clients {
			m.Add("connect", sys.SYS_CONNECT, m.Lent(i), where, uint64(len(at)))
		}
	})
	return err
}

// accept takes a connection of ours. Of an abstract name somebody else may
// have made use.
func (k *Kind) accept(door *fd.FD, l *link, client *fd.FD) error {
	for {
		n, _, err := sys.Accept4(door.Int(), sys.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		own, e := fd.New(n), l.ends()
		ours, err := k.connected(own, client, e)
		if err != nil || !ours {
			if err := errors.Join(err, own.Close()); err != nil {
				return err
			}
			continue
		}
		if e.server == nil {
			e.client.mate = own
			return nil
		}
		return e.server.dress(own)
	}
}

// connected tells whether an accepted socket's peer is the client. The kernel looks
// through all sockets for it, so it is asked once for each process that connects:
// whatever else that one's number has come from it as well, and in the order in which it
// connected.
func (k *Kind) connected(own, client *fd.FD, e ends) (bool, error) {
	if isPath(e.serverName) {
		return true, nil
	}
	who, err := sys.GetsockoptUcred(own.Int(), sys.SOL_SOCKET, sys.SO_PEERCRED)
	if err != nil {
		return false, fmt.Errorf("who connected? %w", err)
	}
	if pid := k.connecting[e.connect.PID]; pid != 0 {
		return who.Pid == pid, nil
	}
	var b sys.Stat_t
	if err := sys.Fstat(client.Int(), &b); err != nil {
		return false, fmt.Errorf("fstat: %w", err)
	}
	peer, err := k.askPeer(own)
	if err != nil || peer != uint32(b.Ino) {
		return false, err
	}
	k.connecting[e.connect.PID] = who.Pid // 0 of one that isn't visible here, as others may not be
	return true, nil
}

// askPeer asks the kernel which socket another one is connected to.
func askPeer(own *fd.FD) (uint32, error) {
	var a sys.Stat_t
	if err := sys.Fstat(own.Int(), &a); err != nil {
		return 0, fmt.Errorf("fstat: %w", err)
	}
	c, err := sockdiag.Open(0)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	u, err := c.Unix(uint32(a.Ino), 0, sockdiag.ShowPeer)
	if err != nil {
		return 0, err
	}
	return u.Peer, nil
}

// boundFile returns the file that a socket is bound to, also if it has no name
// any more.
func boundFile(own int) (*fd.FD, error) {
	n, err := sys.IoctlRetInt(own, siocunixfile)
	if err != nil {
		return nil, fmt.Errorf("ask for the file it is bound to (SIOCUNIXFILE, which needs CAP_NET_ADMIN): %w", err)
	}
	return fd.New(n), nil
}

// reachable is an address that leads to a file that is open.
func reachable(file int) []byte {
	a := address{name: fmt.Appendf(nil, "/proc/self/fd/%d", file)}
	return append(a.sockaddr(), 0)
}

// addressTo returns an address that leads to a socket, whatever its name leads
// to, until done is called.
func addressTo(own int, name []byte) (at []byte, done func(), err error) {
	if len(name) == 0 {
		return nil, nil, fmt.Errorf("it has no name: that can't be")
	}
	if !isPath(name) {
		return (&address{name: name}).sockaddr(), func() {}, nil
	}
	f, err := boundFile(own)
	if err != nil {
		return nil, nil, err
	}
	return reachable(f.Int()), func() { f.Close() }, nil
}

// connectTo connects a socket to another one, by whatever leads to that.
func connectTo(from, to int, name []byte) error {
	at, done, err := addressTo(to, name)
	if err != nil {
		return err
	}
	defer done()
	if err := linux.Connect(from, at); err != nil {
		return fmt.Errorf("connect to %s: %w", nameString(name), err)
	}
	return nil
}

// disconnect takes a datagram socket's peer away.
func disconnect(own int) error {
	if err := linux.Connect(own, binary.NativeEndian.AppendUint16(nil, sys.AF_UNSPEC)); err != nil {
		return fmt.Errorf("disconnect: %w", err)
	}
	return nil
}

// ownName returns a socket's own name.
func ownName(own int) ([]byte, error) {
	var buf [family + maxName + 1]byte
	n, err := linux.Getsockname(own, buf[:])
	if err != nil {
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	return cutName(buf[:], n), nil
}
