package lone

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
)

// States of include/net/tcp_states.h that sockets of vsock have.
const (
	closed    = 7
	listening = 10
)

// vsock is sockets between a machine and those that run in it, vsock(7).
func vsock() *family {
	row := func(name string, opt, size int) socket.Option {
		return socket.Option{Name: name, Level: unix.AF_VSOCK, Opt: opt, Size: size, When: socket.Early}
	}
	t := socket.Table{ // the limits come before what they limit
		row("SO_VM_SOCKETS_BUFFER_MAX_SIZE", unix.SO_VM_SOCKETS_BUFFER_MAX_SIZE, 8),
		row("SO_VM_SOCKETS_BUFFER_MIN_SIZE", unix.SO_VM_SOCKETS_BUFFER_MIN_SIZE, 8),
		row("SO_VM_SOCKETS_BUFFER_SIZE", unix.SO_VM_SOCKETS_BUFFER_SIZE, 8),
		row("SO_VM_SOCKETS_CONNECT_TIMEOUT", unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, 16),
		{Name: "SO_ZEROCOPY", Level: unix.SOL_SOCKET, Opt: unix.SO_ZEROCOPY, Size: 4, When: socket.Late, Ask: true},
	}
	return &family{
		number: unix.AF_VSOCK, types: []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET},
		table: append(append(t, socket.Common()...), socket.Ends()...),
		names: []string{"sock_common.skc_state", "sock.sk_ack_backlog", "sock.sk_max_ack_backlog"},
		look:  lookVsock, check: checkVsock,
	}
}

func lookVsock(p *socket.Plain, _ *kmem.Reader, e *extra.PlainSocket) error {
	state, waiting := p.Sock.U8("sock_common.skc_state"), p.Sock.U32("sock.sk_ack_backlog")
	switch {
	case state != closed && state != listening:
		return p.Refuse("it is connected, or about to be (%s), and only its peer could begin anew: let the process close it first", socket.StateName(int(state)))
	case waiting != 0:
		return p.Refuse("%s: let the server accept them, or end its clients", socket.Unaccepted(int(waiting)))
	case state == listening:
		e.Backlog = proto.Uint32(p.Sock.U32("sock.sk_max_ack_backlog"))
	}
	sa, err := unix.Getsockname(p.FD.Int())
	if err != nil {
		return p.Fail(fmt.Errorf("getsockname: %w", err))
	}
	at, ok := sa.(*unix.SockaddrVM)
	if !ok {
		return p.Fail(fmt.Errorf("its address is a %T", sa))
	}
	if at.Port != unix.VMADDR_PORT_ANY {
		e.Address = address(at)
	}
	return nil
}

// sizeVM is the size of a struct sockaddr_vm: family, reserved, port, cid, flags.
const sizeVM = 16

func address(at *unix.SockaddrVM) []byte {
	ne := binary.NativeEndian
	b := make([]byte, sizeVM)
	ne.PutUint16(b, unix.AF_VSOCK)
	ne.PutUint32(b[4:], at.Port)
	ne.PutUint32(b[8:], at.CID)
	b[12] = at.Flags
	return b
}

func checkVsock(b []byte) error {
	if len(b) != sizeVM || binary.NativeEndian.Uint16(b) != unix.AF_VSOCK {
		return fmt.Errorf("an address %x of vsock can't be", b)
	}
	return nil
}
