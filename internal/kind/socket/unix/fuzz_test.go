package unix

import (
	"encoding/binary"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// FuzzExtras plans a pair with whatever decodes in the images of Glis's own.
func FuzzExtras(f *testing.F) {
	who, err := proto.Marshal(&extra.SocketIdentity{Pid: proto.Uint32(7), Uid: new(uint32), Gid: new(uint32)})
	if err != nil {
		f.Fatal(err)
	}
	more, err := proto.Marshal(&extra.SocketEntry{Id: proto.Uint32(1), Who: proto.Uint32(1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(more, who, false)
	f.Add(more, who, true)
	f.Fuzz(func(_ *testing.T, more, who []byte, datagrams bool) {
		var x extra.SocketEntry
		var i extra.SocketIdentity
		o := proto.UnmarshalOptions{AllowPartial: true}
		if o.Unmarshal(more, &x) != nil || o.Unmarshal(who, &i) != nil {
			return
		}
		a, b := entry(1, 10, 20), entry(2, 20, 10)
		if datagrams {
			a.Usk.Type, b.Usk.Type = proto.Uint32(sys.SOCK_DGRAM), proto.Uint32(sys.SOCK_DGRAM)
		}
		_, _ = planAll(images{extra.Sockets: {plan.Entry{Message: &x}}, extra.Identities: {plan.Entry{Message: &i}}}, a, b)
	})
}

// FuzzControls reads whatever the kernel might say along with a message, but
// descriptors, which would be closed.
func FuzzControls(f *testing.F) {
	control := func(typ int32, data []byte) []byte {
		b := binary.NativeEndian.AppendUint64(nil, uint64(sys.SizeofCmsghdr+len(data)))
		b = binary.NativeEndian.AppendUint32(b, sys.SOL_SOCKET)
		return append(binary.NativeEndian.AppendUint32(b, uint32(typ)), data...)
	}
	f.Add(control(sys.SCM_CREDENTIALS, make([]byte, sys.SizeofUcred)))
	f.Add(control(soInq, make([]byte, 4)))
	f.Add(control(99, nil))
	f.Fuzz(func(_ *testing.T, b []byte) {
		all, err := sys.ParseSocketControlMessage(b)
		for _, m := range all {
			if m.Header.Type == sys.SCM_RIGHTS || m.Header.Type == scmPidfd {
				return
			}
		}
		if p := (&peeked{}); (&peeker{}).parse(p, b) == nil && err != nil {
			panic("what can't be parsed is taken")
		}
	})
}
