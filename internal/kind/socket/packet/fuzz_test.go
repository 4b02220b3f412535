package packet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// FuzzNode plans whatever decodes as an entry.
func FuzzNode(f *testing.F) {
	number := proto.Uint32
	seed, err := proto.Marshal(&fdinfo.FileEntry{Id: number(1), Psk: &packet_sock.PacketSockEntry{
		Id: number(1), Type: number(unix.SOCK_RAW), Protocol: number(3), Ifindex: number(1), Version: number(2), Opts: &sk_opts.SkOptsEntry{},
		RxRing: &packet_sock.PacketRing{BlockSize: number(4096), BlockNr: number(1), FrameSize: number(2048), FrameNr: number(2)},
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
