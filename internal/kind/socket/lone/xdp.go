package lone

import (
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
)

// xdp is sockets that see packets before all others. They have nothing but memory
// that is shared with the driver, or nothing yet.
func xdp() *family {
	return &family{
		number: unix.AF_XDP, types: []int{unix.SOCK_RAW},
		table: append(socket.Common(), socket.Ends()...),
		names: []string{"?xdp_sock", "?xdp_sock.rx", "?xdp_sock.tx", "?xdp_sock.umem", "?xdp_sock.fq_tmp", "?xdp_sock.cq_tmp", "?xdp_sock.dev"},
		look:  lookXDP,
		check: func(b []byte) error { return fmt.Errorf("an address %x of AF_XDP can't be", b) },
	}
}

func lookXDP(p *socket.Plain, m *kmem.Reader, _ *extra.PlainSocket) error {
	if !m.Has("xdp_sock") {
		return p.Refuse("the kernel doesn't say where its rings are; let the process close it first")
	}
	s, err := m.Struct("xdp_sock", p.Sock.At)
	if err != nil {
		return p.Fail(err)
	}
	for _, member := range []string{"rx", "tx", "umem", "fq_tmp", "cq_tmp", "dev"} {
		if m.Has("xdp_sock."+member) && s.Pointer("xdp_sock."+member) != 0 {
			return p.Refuse("it has rings or memory that it shares with an interface (XDP_UMEM_REG), which only the driver can make again; let the process close it first")
		}
	}
	return nil
}
