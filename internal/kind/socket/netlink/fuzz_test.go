package netlink

import (
	"testing"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/sk-netlink"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket/optiontest"
)

// FuzzNode plans whatever decodes as an entry.
func FuzzNode(f *testing.F) {
	number := proto.Uint32
	fown, opts := optiontest.Required()
	seed, err := proto.Marshal(&fdinfo.FileEntry{Type: fdinfo.FdTypes_NETLINKSK.Enum(), Id: number(1), Nlsk: &sk_netlink.NetlinkSkEntry{
		Id: number(1), Ino: number(1), Protocol: number(0), State: number(0), Flags: number(2), Portid: number(7),
		Groups: []uint32{1, 2}, DstPortid: number(3), DstGroup: number(1), Fown: fown, Opts: opts,
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
			_ = n.groups()
			_ = n.String()
		}
	})
}
