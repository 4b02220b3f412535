package unix

import (
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// CRIU writes of a server of datagrams that it is connected, to nothing, as the
// kernel does when others are connected to it.
func TestServerOfCRIU(t *testing.T) {
	server, client := entry(1, 10, 0), entry(2, 20, 10)
	server.Usk.Type, server.Usk.Name = proto.Uint32(sys.SOCK_DGRAM), []byte("/run/x\x00")
	client.Usk.Type = proto.Uint32(sys.SOCK_DGRAM)
	end := entry(3, 30, 0) // of socketpair(2)
	end.Usk.Type = proto.Uint32(sys.SOCK_DGRAM)
	wantPlan(t, images{image.SkQueues: {packet(1, "hello")}}, "unix SOCK_DGRAM, bound to \"/run/x\", 5 bytes in 1 messages\n"+
		"unix SOCK_DGRAM, connected to file 0x1\n"+
		"unix SOCK_DGRAM, its peer is closed", server, client, end)
}

// CRIU doesn't tell a socket that was accepted from one that was bound.
func TestAcceptedOfCRIU(t *testing.T) {
	door := entry(1, 10, 0)
	door.Usk.State, door.Usk.Name = proto.Uint32(listening), []byte("/run/x\x00")
	named := func(id, ino, peer uint32, name string) *fdinfo.FileEntry {
		e := entry(id, ino, peer)
		e.Usk.Name = []byte(name)
		return e
	}
	entries := []*fdinfo.FileEntry{door,
		named(2, 20, 30, "/run/x\x00"), named(3, 30, 20, "/run/own\x00"), // both have names
		named(4, 40, 50, "/run/gone\x00"), entry(5, 50, 40), // its listener is gone
	}
	wantPlan(t, nil, "unix SOCK_STREAM, listening at \"/run/x\", backlog 0\n"+
		"unix SOCK_STREAM, accepted at \"/run/x\", connected to file 0x3\n"+
		"unix SOCK_STREAM, bound to \"/run/own\", connected to file 0x2\n"+
		"unix SOCK_STREAM, accepted at \"/run/gone\", connected to file 0x5\n"+
		"unix SOCK_STREAM, connected to file 0x4", entries...)
	who := &extra.SocketIdentity{Pid: proto.Uint32(7), Uid: new(uint32), Gid: new(uint32)} // Glis does
	wantPlan(t, images{extra.Identities: {plan.Entry{Message: who}}}, "unix SOCK_STREAM, bound to \"/run/gone\", connected to file 0x5\n"+
		"unix SOCK_STREAM, connected to file 0x4", entries[3:]...)
}

func wantPlan(t *testing.T, in images, want string, entries ...*fdinfo.FileEntry) {
	t.Helper()
	if got, err := planAll(in, entries...); err != nil || got != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
}
