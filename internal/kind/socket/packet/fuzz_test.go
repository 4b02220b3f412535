package packet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket/optiontest"
)

// FuzzNode plans whatever decodes as an entry.
func FuzzNode(f *testing.F) {
	number, no := proto.Uint32, proto.Bool(false)
	fown, opts := optiontest.Required()
	seed, err := proto.Marshal(&fdinfo.FileEntry{Type: fdinfo.FdTypes_PACKETSK.Enum(), Id: number(1), Psk: &packet_sock.PacketSockEntry{
		Id: number(1), Type: number(unix.SOCK_RAW), Protocol: number(3), Ifindex: number(1), Version: number(2), Fown: fown, Opts: opts,
		Flags: number(2), Reserve: number(0), AuxData: no, OrigDev: no, VnetHdr: no, Loss: no, Timestamp: number(0), CopyThresh: number(0),
		RxRing: &packet_sock.PacketRing{BlockSize: number(4096), BlockNr: number(1), FrameSize: number(2048), FrameNr: number(2), RetireTmo: number(0), SizeofPriv: number(0), Features: number(0)},
		Mclist: []*packet_sock.PacketMclist{{Index: number(1), Type: number(0), Addr: make([]byte, 6)}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, []byte(nil))
	f.Fuzz(func(t *testing.T, b, more []byte) {
		e, x := &fdinfo.FileEntry{}, &extra.SocketEntry{}
		if proto.Unmarshal(b, e) != nil || proto.Unmarshal(more, x) != nil {
			return
		}
		k := New()
		k.extras = map[uint32]*extra.SocketEntry{x.GetId(): x}
		if n, err := k.node(e); err == nil {
			_ = n.String()
		}
	})
}
