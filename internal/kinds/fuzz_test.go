package kinds

import (
	"context"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ext_file "glis.dev/glis/image/criu/ext-file"
	"glis.dev/glis/image/criu/fdinfo"
	packet_sock "glis.dev/glis/image/criu/packet-sock"
	sk_netlink "glis.dev/glis/image/criu/sk-netlink"
	"glis.dev/glis/image/criu/tun"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/plan"
	settings "glis.dev/glis/options"
)

// images are what a plan reads, by the row's pattern.
type images map[string][]plan.Entry

func (im images) Entries(row *image.Row, _ ...uint32) ([]plan.Entry, error) {
	return im[row.Pattern], nil
}

// FuzzPlan plans whatever decodes as an open file of any kind, with what Glis adds
// to it and a message in its queue: it neither panics nor makes anything.
func FuzzPlan(f *testing.F) {
	bytesOf := func(m proto.Message) []byte {
		b, err := (proto.MarshalOptions{AllowPartial: true}).Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	queued := bytesOf(&extra.QueuedMessage{Socket: proto.Uint32(1), From: proto.Uint32(5), Who: &extra.SocketCredentials{Pid: proto.Uint32(7), Uid: new(uint32), Gid: new(uint32)}})
	for _, s := range seeds(bytesOf) {
		f.Add(bytesOf(s.file), bytesOf(s.more), []byte(nil))
		f.Add(bytesOf(s.file), bytesOf(s.more), queued)
	}
	f.Fuzz(func(_ *testing.T, file, more, queued []byte) {
		e, x, q := &fdinfo.FileEntry{}, &extra.SocketEntry{}, &extra.QueuedMessage{}
		o := proto.UnmarshalOptions{AllowPartial: true}
		if o.Unmarshal(file, e) != nil || o.Unmarshal(more, x) != nil || o.Unmarshal(queued, q) != nil {
			return
		}
		in := images{image.Files.Pattern: {{Message: e}}, extra.Sockets.Pattern: {{Message: x}}}
		if len(queued) > 0 {
			in[extra.Queued.Pattern] = []plan.Entry{{Message: q}}
		}
		planFile(in, e)
	})
}

// planFile plans one file by its kind, and has it say what it would do.
func planFile(in images, e *fdinfo.FileEntry) {
	all := New().Files
	i := slices.IndexFunc(all, func(k kind.File) bool { return k.Type() == e.GetType() })
	if i < 0 {
		return
	}
	p := plan.New(in, &settings.Restore{})
	if all[i].Plan(p, e) != nil {
		return
	}
	if k, ok := all[i].(interface{ Planned() error }); ok && k.Planned() != nil {
		return
	}
	nodes, err := p.Nodes()
	if err != nil {
		return
	}
	for _, n := range nodes {
		_ = n.String()
		if r, ok := n.(plan.Resumer); ok {
			_ = r.Resume()
		}
		// A file that nobody has, as images may have it, is not made, but asked like others.
		if l, ok := n.(plan.Later); ok {
			_ = l.Late(context.Background(), nil)
		}
		if d, ok := n.(plan.Dropper); ok {
			d.Drop()
		}
	}
}

type seed struct {
	file *fdinfo.FileEntry
	more *extra.SocketEntry
}

// seeds are a netlink, a packet and a vsock socket, and a tun device.
func seeds(bytesOf func(proto.Message) []byte) []seed {
	number, no := proto.Uint32, proto.Bool(false)
	fown, opts := optiontest.Required()
	ring := &packet_sock.PacketRing{BlockSize: number(4096), BlockNr: number(1), FrameSize: number(2048), FrameNr: number(2), RetireTmo: number(0), SizeofPriv: number(0), Features: number(0)}
	return []seed{
		{&fdinfo.FileEntry{Type: fdinfo.FdTypes_NETLINKSK.Enum(), Id: number(1), Nlsk: &sk_netlink.NetlinkSkEntry{
			Id: number(1), Ino: number(1), Protocol: number(0), State: number(0), Flags: number(2), Portid: number(7),
			Groups: []uint32{1, 2}, DstPortid: number(3), DstGroup: number(1), Fown: fown, Opts: opts,
		}}, &extra.SocketEntry{Id: number(1)}},
		{&fdinfo.FileEntry{Type: fdinfo.FdTypes_PACKETSK.Enum(), Id: number(1), Psk: &packet_sock.PacketSockEntry{
			Id: number(1), Type: number(unix.SOCK_RAW), Protocol: number(3), Ifindex: number(1), Version: number(2), Fown: fown, Opts: opts,
			Flags: number(2), Reserve: number(0), AuxData: no, OrigDev: no, VnetHdr: no, Loss: no, Timestamp: number(0), CopyThresh: number(0),
			RxRing: ring, Mclist: []*packet_sock.PacketMclist{{Index: number(1), Type: number(0), Addr: make([]byte, 6)}},
		}}, &extra.SocketEntry{Id: number(1)}},
		{&fdinfo.FileEntry{Type: fdinfo.FdTypes_EXT.Enum(), Id: number(1), Ext: &ext_file.ExtFileEntry{Id: number(1), Fown: fown}},
			&extra.SocketEntry{Id: number(1), Plain: &extra.PlainSocket{
				Family: number(unix.AF_VSOCK), Type: number(unix.SOCK_STREAM), Protocol: number(0), Flags: number(2), Options: bytesOf(opts), Backlog: number(1),
			}}},
		{&fdinfo.FileEntry{Type: fdinfo.FdTypes_TUNF.Enum(), Id: number(1), Tunf: &tun.TunfileEntry{Id: number(1)}},
			&extra.SocketEntry{Id: number(1), Tun: &extra.TunFile{}}},
	}
}
