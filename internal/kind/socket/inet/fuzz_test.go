package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// FuzzImages plans a listener and a UDP socket with whatever decodes in the
// images of Glis's own.
func FuzzImages(f *testing.F) {
	rows := []*image.Row{extra.TCPWaiting, extra.Datagrams, extra.Addresses, extra.Sockets}
	one, four := proto.Uint32(1), proto.Uint32(4)
	for i, m := range []proto.Message{&extra.WaitingTCP{Listener: one}, &extra.Datagram{Socket: four}, &extra.LocalAddress{}, &extra.SocketEntry{Id: four}} {
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b, b)
	}
	f.Fuzz(func(_ *testing.T, which uint8, first, second []byte) {
		row := rows[int(which)%len(rows)]
		udp := entry(4)
		udp.Isk.Family, udp.Isk.Type, udp.Isk.Proto, udp.Isk.State = proto.Uint32(unix.AF_INET6), proto.Uint32(unix.SOCK_DGRAM), proto.Uint32(unix.IPPROTO_UDP), proto.Uint32(closed)
		udp.Isk.Ino = proto.Uint32(8)
		udp.Isk.SrcAddr, udp.Isk.DstAddr = []uint32{0, 0, 0, 1 << 24}, []uint32{0, 0, 0, 0}
		in := images{of(image.Files): {{Message: entry(1)}, {Message: udp}}}
		for _, b := range [][]byte{first, second} {
			m := row.New()
			if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, m) != nil {
				return
			}
			in[of(row)] = append(in[of(row)], plan.Entry{Message: m})
		}
		nodes, err := planned(in)
		if err != nil {
			return
		}
		for _, n := range nodes {
			_ = n.String()
		}
	})
}
