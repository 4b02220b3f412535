package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// FuzzPlan plans whatever decodes as an entry and what Glis adds to it, or a
// listener and a UDP socket with whatever decodes in the images of Glis's own.
func FuzzPlan(f *testing.F) {
	rows := []*image.Row{extra.TCPWaiting, extra.Datagrams, extra.Addresses, extra.Sockets}
	one, four := proto.Uint32(1), proto.Uint32(4)
	for i, m := range []proto.Message{&extra.WaitingTCP{Listener: one}, &extra.Datagram{Socket: four}, &extra.LocalAddress{}, &extra.SocketEntry{Id: four}} {
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b, b)
	}
	seed, err := proto.Marshal(entry(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(len(rows)), seed, []byte(nil))
	f.Fuzz(func(t *testing.T, which uint8, first, second []byte) {
		n := int(which) % (len(rows) + 1)
		if n == len(rows) {
			planOne(t, first, second)
			return
		}
		row := rows[n]
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

// planOne plans one socket.
func planOne(t *testing.T, b, more []byte) {
	t.Helper()
	e, x := &fdinfo.FileEntry{}, &extra.SocketEntry{}
	if proto.Unmarshal(b, e) != nil || proto.Unmarshal(more, x) != nil {
		return
	}
	in := images{of(image.Files): {{Message: e}}, of(extra.Sockets): {{Message: x}}}
	nodes, err := planned(in)
	if err == nil && len(nodes) != 1 {
		t.Errorf("%d nodes", len(nodes))
	}
}
