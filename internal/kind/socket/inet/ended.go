package inet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/sockmem"
)

// ended is what is left of a connection that has ended, while its socket is
// still open.
type ended struct {
	unread []byte
	err    unix.Errno // what the next call reports, 0 if nothing
	// connecting: connect(2), which didn't wait, has not told how it went.
	connecting bool
	// released: its port was given to it by connect(2) or accept(2), and has been free
	// since the end.
	released bool
}

// canFail tells whether an error that waits to be reported can be made again.
func canFail(e unix.Errno) bool {
	return slices.Contains([]unix.Errno{0, unix.ECONNRESET, unix.EPIPE, unix.ECONNREFUSED}, e)
}

// checkClosed finds out what a TCP socket that isn't connected has been through.
func (l *look) checkClosed() error {
	if o := l.loneOf(); o != nil && o.ended {
		return l.checkEndedLone(o)
	}
	p := []unix.PollFd{{Fd: int32(l.fd.Int()), Events: unix.POLLIN | unix.POLLRDHUP}}
	if _, err := linux.PollNow(p); err != nil {
		return l.fail(fmt.Errorf("poll: %w", err))
	}
	if p[0].Revents&(unix.POLLERR|unix.POLLRDHUP|unix.POLLIN) == 0 {
		if l.inside != nil && l.protocol == unix.IPPROTO_TCP { // for sending only
			l.shutdown = l.inside.U8("sock.sk_shutdown") & shutBoth
		}
		return nil
	}
	own, err := l.readInside(p[0].Revents&unix.POLLERR != 0)
	if errors.Is(err, sockmem.ErrUnavailable) {
		return l.refuse("it was shut down, or its connection has ended, and whether there is an error to report (SO_ERROR) isn't known (%v); let the process close it first", err)
	}
	if err != nil {
		return l.fail(err)
	}
	l.shutdown = own.Shutdown & shutBoth
	failure := unix.Errno(own.Err)
	if !l.connected && l.protocol == unix.IPPROTO_TCP {
		return l.hasFault(failure)
	}
	return l.hasEnded(failure, l.unread)
}

// unread returns what waits to be read from an ended connection. Where peeking begins
// behind what was peeked at, and goes on from there (SO_PEEK_OFF), the kernel's memory tells.
func (l *look) unread() ([]byte, error) {
	if off, ok := l.peekOff(); !ok || off < 0 {
		return tcp.Unread(l.fd.Int())
	}
	m, err := l.kind.memory()
	if err != nil {
		return nil, err
	}
	sk, err := m.Sock(l.fd.Int())
	if err != nil {
		return nil, err
	}
	return tcp.NewQueues(m).Left(sk)
}

// hasEnded notes what is left of a connection. unread returns what was not read.
func (l *look) hasEnded(failure unix.Errno, unread func() ([]byte, error)) (err error) {
	if !canFail(failure) || l.protocol == unix.IPPROTO_MPTCP {
		return l.refuse("its connection has ended, and what is left of it can't be made again (%v waits to be reported); let the process close it first", failure)
	}
	// What is behind urgent data nobody is shown who asks how much waits.
	if l.inside != nil && l.inside.U16("tcp_sock.urg_data") != 0 {
		return l.refuse("its connection has ended, and urgent data waits to be read (MSG_OOB), which isn't supported; let the process read it")
	}
	switch why, err := l.keptSyn(); {
	case err != nil:
		return l.fail(err)
	case why != "":
		return l.refuse("its connection has ended, and %s", why)
	}
	l.ended = &ended{err: failure}
	if l.ended.unread, err = unread(); err == nil {
		l.ended.connecting, err = l.connecting()
	}
	if err == nil {
		l.ended.released, err = l.released()
	}
	return l.fail(err)
}

// keptSyn says that the first segment of the connection that has ended waits to be read.
func (l *look) keptSyn() (string, error) {
	if l.loneOf() == nil {
		return tcp.KeptSyn(l.fd.Int())
	}
	if l.inside.Pointer("tcp_sock.saved_syn") != 0 {
		return tcp.WhyKeptSyn, nil
	}
	return "", nil
}

// checkEndedLone is checkClosed for one that is only in messages.
func (l *look) checkEndedLone(o *lone) error {
	m, err := l.kind.memory()
	if err != nil {
		return l.fail(err)
	}
	var p sockmem.Picture
	if err := l.kind.picture(o.sk, &p); err != nil {
		return l.fail(err)
	}
	if p.Word[sockmem.Errors]|p.Word[sockmem.Repair] != 0 {
		return l.refuse("its connection has ended, which is only in messages that nobody can receive, and time stamps wait at it (MSG_ERRQUEUE), or it is in repair mode (TCP_REPAIR); let the server accept them")
	}
	if l.inside, err = m.Struct("tcp_sock", o.sk); err != nil {
		return l.fail(err)
	}
	l.shutdown = l.inside.U8("sock.sk_shutdown") & shutBoth
	return l.hasEnded(unix.Errno(l.inside.U32("sock.sk_err")), func() ([]byte, error) { return tcp.NewQueues(m).Left(o.sk) })
}

// released tells whether its port is free, though its address tells it.
func (l *look) released() (bool, error) {
	if l.inside == nil { // what is left of it is known from there, too
		return false, nil
	}
	m, err := l.kind.memory()
	return err == nil && m.Has("sock.sk_userlocks") && l.inside.Bits("sock.sk_userlocks")&boundPort == 0, err
}

// ssConnecting is SS_CONNECTING of include/uapi/linux/net.h.
const ssConnecting = 2

// connecting tells whether connect(2) would say how the connection went, and begin
// a new one then: it does so once, of one that it has not waited for.
func (l *look) connecting() (bool, error) {
	if l.inside == nil { // what is left of it is known from there, too
		return false, nil
	}
	m, err := l.kind.memory()
	if err != nil {
		return false, err
	}
	own, err := m.Struct("socket", l.inside.Pointer("sock.sk_socket"))
	if err != nil {
		return false, err
	}
	return own.U32("socket.state") == ssConnecting, nil
}

// readInside reads the kernel's memory of the socket, anew if it was read before
// an error came.
func (l *look) readInside(failed bool) (sockmem.Socket, error) {
	for range 2 {
		memory, err := l.kind.lookInside(l.file.Task)
		if err != nil {
			return sockmem.Socket{}, err
		}
		own, ok := memory[l.file.FD]
		if ok && (own.Err != 0) == failed {
			return own, nil
		}
		delete(l.kind.inside, l.file.Task)
	}
	return sockmem.Socket{}, fmt.Errorf("%w: it doesn't show the socket, or another error than poll", sockmem.ErrUnavailable)
}

// put writes it where criu has no place for it.
func (d *ended) put(e *extra.SocketEntry) {
	if d == nil {
		return
	}
	yes, code := true, uint32(d.err)
	e.Ended, e.Unread = &yes, d.unread
	if code != 0 {
		e.Error = &code
	}
	if d.connecting {
		e.Connecting = &yes
	}
	if d.released {
		e.LentPort = &yes
	}
}

// planEnded is the inverse of put.
func (n *node) planEnded(in *sk_inet.InetSkEntry, x *extra.SocketEntry) error {
	if !x.GetEnded() {
		return nil
	}
	code := unix.Errno(x.GetError())
	switch {
	case n.protocol != unix.IPPROTO_TCP || n.entry.state != closed || in.GetDstPort() != 0 || !n.at.set():
		return fmt.Errorf("%v: its connection can't have ended", n)
	case !canFail(code):
		return fmt.Errorf("an error that waits (%v) can't be made again", code)
	}
	n.ended = &ended{x.GetUnread(), code, x.GetConnecting(), x.GetLentPort()}
	return nil
}

// endedOfCRIU is what criu's images have of a connection that has ended: what was
// not read, beside numbers that nobody needs any more.
func (n *node) endedOfCRIU(p *plan.Plan) (*ended, error) {
	all, err := p.Source.Entries(image.TCPStream, n.entry.ino)
	if err != nil || len(all) == 0 {
		return &ended{}, err
	}
	size := all[0].Message.(*tcp_stream.TcpStreamEntry).GetInqLen()
	if len(all) != 1 || uint64(size) > uint64(all[0].Size()) {
		return nil, fmt.Errorf("%s: %d entries, the first with %d bytes of which %d wait to be read: that can't be", image.TCPStream.FileName(n.entry.ino), len(all), all[0].Size(), size)
	}
	if far := all[0].Far; far != nil {
		out := &ended{}
		return out, far.Use(func(b []byte) error {
			out.unread = bytes.Clone(b[:size])
			return nil
		})
	}
	return &ended{unread: all[0].Payload[:size]}, nil
}

// end is what the connection is to come to.
func (n *node) end() tcp.End {
	return tcp.End{Unread: n.ended.unread, Err: n.ended.err, Connecting: n.ended.connecting, Device: n.opts.Entry.GetSoBoundDev(), Local: n.at.addrPort()}
}

// finishEnded connects a new socket to nobody, from the address it had, gives
// it what wasn't read, and ends the connection in the way it had ended.
func (n *node) finishEnded(own *fd.FD, k *socket.Kernel, at address) error {
	num, end := own.Int(), n.end()
	if err := n.makeEnd(num, &end, at); err != nil {
		return err
	}
	reuse := linux.SockOpt{Level: unix.SOL_SOCKET, Name: unix.SO_REUSEADDR, Value: n.number("SO_REUSEADDR")}
	if err := reuse.Set(num); err != nil {
		return err
	}
	if err := n.attachFilters(num); err != nil {
		return err
	}
	if err := k.Set(num, n.values(), socket.Late, socket.Opened, end.Touched()...); err != nil {
		return err
	}
	return n.flags(own)
}

// makeEnd does so with a socket that has its early options.
func (n *node) makeEnd(num int, end *tcp.End, at address) error {
	zone, err := n.zone()
	if err != nil {
		return err
	}
	connect := func(port uint16) error {
		if err := unix.Connect(num, address{n.at.ip, port}.sockaddr(n.family, zone)); err != nil {
			return err
		}
		return n.checkSource(num)
	}
	if n.freely {
		return n.endFreely(num, end, connect)
	}
	if err := tcp.Repair().Set(num); err != nil {
		return fmt.Errorf("enter repair mode (it needs CAP_NET_ADMIN): %w", err)
	}
	if err := n.bindTo(num, at, zone); err != nil {
		return err
	}
	return end.Make(num, connect)
}
