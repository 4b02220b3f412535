package unix

import (
	"encoding/binary"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	sk_packet "glis.dev/glis/image/criu/sk-packet"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// FuzzPlan plans sockets with whatever decodes as entries, and in the images of
// Glis's own.
func FuzzPlan(f *testing.F) {
	kinds := []func(a, b, more []byte, id, length uint32){planQueue, planExtras, planArrival}
	bytesOf := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	for _, e := range []*fdinfo.FileEntry{entry(1, 10, 20), entry(2, 20, 10), entry(3, 30, 0)} {
		b := bytesOf(e)
		f.Add(uint8(0), b, b, []byte("queue"), uint32(1), uint32(5))
	}
	who := bytesOf(&extra.SocketIdentity{Pid: proto.Uint32(7), Uid: new(uint32), Gid: new(uint32)})
	more := bytesOf(&extra.SocketEntry{Id: proto.Uint32(1), Who: proto.Uint32(1)})
	f.Add(uint8(1), more, who, []byte(nil), uint32(0), uint32(0))
	f.Add(uint8(1), more, who, []byte(nil), uint32(1), uint32(0))
	for _, e := range []plan.Entry{waitingEntry(2, "hello", ""), waitingEntry(0, "x"), waitingEntry(3)} {
		f.Add(uint8(2), bytesOf(e.Message), []byte(nil), []byte(nil), uint32(0), uint32(0))
	}
	f.Fuzz(func(_ *testing.T, which uint8, a, b, more []byte, id, length uint32) {
		kinds[int(which)%len(kinds)](a, b, more, id, length)
	})
}

var partial = proto.UnmarshalOptions{AllowPartial: true}

// planQueue plans two sockets, and a message for one of them.
func planQueue(one, two, data []byte, id, length uint32) {
	var a, b fdinfo.FileEntry
	if partial.Unmarshal(one, &a) != nil || partial.Unmarshal(two, &b) != nil {
		return
	}
	m := plan.Entry{Message: &sk_packet.SkPacketEntry{IdFor: &id, Length: &length}, Payload: data}
	_, _ = planAll(images{image.SkQueues: {m}}, &a, &b)
}

// planExtras plans a pair of streams, or of datagram sockets, with what is added
// to one of them, and who made it.
func planExtras(more, who, _ []byte, datagrams, _ uint32) {
	var x extra.SocketEntry
	var i extra.SocketIdentity
	if partial.Unmarshal(more, &x) != nil || partial.Unmarshal(who, &i) != nil {
		return
	}
	a, b := entry(1, 10, 20), entry(2, 20, 10)
	if datagrams%2 == 1 {
		a.Usk.Type, b.Usk.Type = proto.Uint32(sys.SOCK_DGRAM), proto.Uint32(sys.SOCK_DGRAM)
	}
	_, _ = planAll(images{extra.Sockets: {plan.Entry{Message: &x}}, extra.Identities: {plan.Entry{Message: &i}}}, a, b)
}

// planArrival plans a listener at which two wait.
func planArrival(message, _, _ []byte, _, _ uint32) {
	var e extra.WaitingConnection
	if partial.Unmarshal(message, &e) != nil {
		return
	}
	in, entries := waitingImages(plan.Entry{Message: &e}, waitingEntry(3, "second"))
	_, _ = planAll(in, entries...)
}

// FuzzControls reads whatever the kernel might say along with a message, but
// descriptors, which would be closed; and takes it for a name, with any directory
// and root.
func FuzzControls(f *testing.F) {
	control := func(typ int32, data []byte) []byte {
		b := binary.NativeEndian.AppendUint64(nil, uint64(sys.SizeofCmsghdr+len(data)))
		b = binary.NativeEndian.AppendUint32(b, sys.SOL_SOCKET)
		return append(binary.NativeEndian.AppendUint32(b, uint32(typ)), data...)
	}
	for _, b := range [][]byte{control(sys.SCM_CREDENTIALS, make([]byte, sys.SizeofUcred)), control(soInq, make([]byte, 4)), control(99, nil)} {
		f.Add(b, "", "")
	}
	f.Add([]byte("/run/x\x00"), "", "")
	f.Add([]byte("x\x00"), "/run", "/jail")
	f.Add([]byte("\x00abstract"), "", "")
	f.Fuzz(func(t *testing.T, b []byte, dir, root string) {
		if err := checkAddress(b, dir, root); err != nil {
			t.Error(err)
		}
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
