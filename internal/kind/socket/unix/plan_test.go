package unix

import (
	"strings"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	sk_packet "glis.dev/glis/image/criu/sk-packet"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/image/protowire"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/options"
)

// entry is a socket of a pair as images have it.
func entry(id, ino, peer uint32) *fdinfo.FileEntry {
	zero := new(uint32)
	return &fdinfo.FileEntry{
		Type: fdinfo.FdTypes_UNIXSK.Enum(), Id: &id,
		Usk: &sk_unix.UnixSkEntry{
			Id: &id, Ino: &ino, Type: proto.Uint32(sys.SOCK_STREAM), State: proto.Uint32(established), Flags: proto.Uint32(2), Uflags: new(uint32),
			Backlog: new(uint32), Peer: &peer, Name: []byte{},
			Fown: &fown.FownEntry{Uid: zero, Euid: zero, Signum: zero, PidType: zero, Pid: zero},
			Opts: &sk_opts.SkOptsEntry{
				SoSndbuf: proto.Uint32(212992), SoRcvbuf: proto.Uint32(212992),
				SoSndTmoSec: new(uint64), SoSndTmoUsec: new(uint64), SoRcvTmoSec: new(uint64), SoRcvTmoUsec: new(uint64),
			},
		},
	}
}

func packet(id uint32, data string) plan.Entry {
	return plan.Entry{Message: &sk_packet.SkPacketEntry{IdFor: &id, Length: proto.Uint32(uint32(len(data)))}, Payload: []byte(data)}
}

// planAll plans entries and returns what the plan looks like.
func planAll(in images, entries ...*fdinfo.FileEntry) (string, error) {
	p := plan.New(in, &options.Restore{})
	k := New()
	for _, e := range entries {
		if err := k.Plan(p, e); err != nil {
			return "", err
		}
	}
	if err := k.Planned(); err != nil {
		return "", err
	}
	nodes, err := p.Nodes()
	if err != nil {
		return "", err
	}
	var lines []string
	for _, n := range nodes {
		lines = append(lines, n.String())
	}
	return strings.Join(lines, "\n"), nil
}

func TestPlan(t *testing.T) {
	in := images{image.SkQueues: {packet(2, "hello"), packet(2, " world"), packet(1, "x")}}
	orphan := entry(3, 30, 0)
	orphan.Usk.Shutdown = sk_opts.SkShutdown_BOTH.Enum()
	alone := entry(4, 40, 0)
	alone.Usk.State = proto.Uint32(closed)
	got, err := planAll(in, entry(1, 10, 20), entry(2, 20, 10), orphan, alone)
	if err != nil {
		t.Fatal(err)
	}
	want := "unix SOCK_STREAM, connected to file 0x2, 1 bytes in 1 messages\n" +
		"unix SOCK_STREAM, connected to file 0x1, 11 bytes in 2 messages\n" +
		"unix SOCK_STREAM, its peer is closed\n" +
		"unix SOCK_STREAM"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPlanBad(t *testing.T) {
	change := func(f func(u *sk_unix.UnixSkEntry)) []*fdinfo.FileEntry {
		e := entry(1, 10, 20)
		f(e.Usk)
		return []*fdinfo.FileEntry{e, entry(2, 20, 10)}
	}
	scm := packet(1, "x")
	scm.Message.(*sk_packet.SkPacketEntry).Scm = []*sk_packet.ScmEntry{{Type: proto.Uint32(1), Rights: []uint32{99}}}
	odd := packet(1, "x")
	odd.Message.(*sk_packet.SkPacketEntry).Scm = []*sk_packet.ScmEntry{{Type: proto.Uint32(7)}}
	lone := entry(3, 30, 0)
	lone.Usk.State = proto.Uint32(closed)
	short := packet(1, "x")
	short.Payload = nil
	errno := func(e uint32) images {
		return images{extra.Sockets: {{Message: &extra.SocketEntry{Id: proto.Uint32(1), Error: &e}}}}
	}
	dgrams := func() []*fdinfo.FileEntry {
		all := []*fdinfo.FileEntry{entry(1, 10, 20), entry(2, 20, 10), entry(3, 30, 0)}
		for _, e := range all {
			e.Usk.Type = proto.Uint32(2)
		}
		return all
	}
	foreign := packet(1, "x")
	b, err := proto.Marshal(&extra.SocketMessage{Sender: proto.Uint32(3)})
	if err != nil {
		t.Fatal(err)
	}
	foreign.Message.(*sk_packet.SkPacketEntry).SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, messageField, protowire.BytesType), b))
	tests := []struct {
		name, want string
		in         images
		entries    []*fdinfo.FileEntry
	}{
		{"no entry", "missing", nil, []*fdinfo.FileEntry{{Id: proto.Uint32(1)}}},
		{"other number inside", "called 0x9", nil, change(func(u *sk_unix.UnixSkEntry) { u.Id = proto.Uint32(9) })},
		{"type", "SOCK_RAW", nil, change(func(u *sk_unix.UnixSkEntry) { u.Type = proto.Uint32(3) })},
		{"huge type", "can't be", nil, change(func(u *sk_unix.UnixSkEntry) { u.Type = proto.Uint32(1 << 31) })},
		{"state", "SYN_SENT", nil, change(func(u *sk_unix.UnixSkEntry) { u.State = proto.Uint32(2) })},
		{"connected listener", `"/run/x", connected to socket 20, can't listen`, nil, change(func(u *sk_unix.UnixSkEntry) { u.State, u.Name = proto.Uint32(10), []byte("/run/x") })},
		{"listener without a name", "can't listen", nil, change(func(u *sk_unix.UnixSkEntry) { u.State, u.Peer = proto.Uint32(10), new(uint32) })},
		{"listener of datagrams", "can't listen", nil,
			change(func(u *sk_unix.UnixSkEntry) {
				u.State, u.Peer, u.Type, u.Name = proto.Uint32(10), new(uint32), proto.Uint32(2), []byte("\x00x")
			})},
		{"backlog", "backlog", nil,
			change(func(u *sk_unix.UnixSkEntry) {
				u.State, u.Peer, u.Backlog, u.Name = proto.Uint32(10), new(uint32), proto.Uint32(1<<31), []byte("\x00x")
			})},
		{"of criu's service", "service", nil, change(func(u *sk_unix.UnixSkEntry) { u.Uflags = proto.Uint32(2) })},
		{"unknown flag", "0x40", nil, change(func(u *sk_unix.UnixSkEntry) { u.Uflags = proto.Uint32(64) })},
		{"shutdown", "shutdown", nil, change(func(u *sk_unix.UnixSkEntry) { u.Shutdown = sk_opts.SkShutdown(9).Enum() })},
		{"inode 0", "inode 0", nil, change(func(u *sk_unix.UnixSkEntry) { u.Ino = new(uint32) })},
		{"itself", "itself", nil, change(func(u *sk_unix.UnixSkEntry) { u.Peer = proto.Uint32(10) })},
		{"dangling", "not shut down", nil, change(func(u *sk_unix.UnixSkEntry) { u.Peer = proto.Uint32(0) })},
		{"owner", "owner", nil, change(func(u *sk_unix.UnixSkEntry) { u.Fown.PidType = proto.Uint32(77) })},
		{"filter", "filter", nil, change(func(u *sk_unix.UnixSkEntry) { u.Opts.SoFilter = make([]uint64, 5000) })},
		{"twice", "twice", nil, []*fdinfo.FileEntry{entry(1, 10, 20), entry(2, 20, 10), entry(3, 10, 20)}},
		{"no peer", "is missing", nil, []*fdinfo.FileEntry{entry(1, 10, 20)}},
		{"three of a pair", "isn't to it", nil, []*fdinfo.FileEntry{entry(1, 10, 20), entry(2, 20, 10), entry(3, 30, 20)}},
		{"pair of two types", "isn't to it", nil, change(func(u *sk_unix.UnixSkEntry) { u.Type = proto.Uint32(5) })},
		{"descriptors of unknown type in its queue", "of type 7", images{image.SkQueues: {odd}}, change(func(*sk_unix.UnixSkEntry) {})},
		{"missing files in its queue", "file 0x63, which comes along, is missing", images{image.SkQueues: {scm}}, change(func(*sk_unix.UnixSkEntry) {})},
		{"cut queue", "bytes of", images{image.SkQueues: {short}}, change(func(*sk_unix.UnixSkEntry) {})},
		{"queue of nobody", "nobody", images{image.SkQueues: {packet(3, "x")}}, []*fdinfo.FileEntry{lone}},
		{"error at a pair", "waits to be reported", errno(104), change(func(*sk_unix.UnixSkEntry) {})},
		{"error at a datagram pair", "nobody can have caused it", errno(104), dgrams()},
		{"message of a third", "file 0x3 can't have sent it", images{image.SkQueues: {foreign}}, dgrams()},
		{"odd error", "waits to be reported", errno(5),
			change(func(u *sk_unix.UnixSkEntry) { u.Peer, u.Shutdown = proto.Uint32(0), sk_opts.SkShutdown_BOTH.Enum() })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := planAll(tt.in, tt.entries...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
