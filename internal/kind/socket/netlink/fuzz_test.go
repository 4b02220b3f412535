package netlink

import (
	"testing"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/criu/sk-netlink"
	"glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// FuzzNode plans whatever decodes as an entry.
func FuzzNode(f *testing.F) {
	number, long := proto.Uint32, proto.Uint64
	fown := &fown.FownEntry{Uid: number(0), Euid: number(0), Signum: number(0), PidType: number(0), Pid: number(0)}
	opts := &sk_opts.SkOptsEntry{
		SoSndbuf: number(1), SoRcvbuf: number(1),
		SoSndTmoSec: long(0), SoSndTmoUsec: long(0), SoRcvTmoSec: long(0), SoRcvTmoUsec: long(0),
	}
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
