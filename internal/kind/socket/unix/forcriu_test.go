package unix

import (
	"strings"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// What Glis says of a socket counts, where criu's entry had to say otherwise.
func TestForCRIU(t *testing.T) {
	says := func(more *extra.SocketEntry) images {
		more.Id = proto.Uint32(1)
		return images{extra.Sockets: {{Message: more}}}
	}
	dgram, server := entry(1, 10, 0), entry(2, 20, 0)
	server.Usk.Name, server.Usk.State = []byte("\x00x"), proto.Uint32(closed)
	door := entry(1, 10, 0)
	door.Usk.State, door.Usk.Name, door.Usk.Backlog = proto.Uint32(listening), []byte("\x00x"), proto.Uint32(9)
	for _, e := range []*fdinfo.FileEntry{dgram, server} {
		e.Usk.Type = proto.Uint32(sys.SOCK_DGRAM)
	}
	wantPlan(t, says(&extra.SocketEntry{Peer: proto.Uint32(20)}), "unix SOCK_DGRAM, connected to file 0x2\nunix SOCK_DGRAM, bound to \"@x\"", dgram, server)
	wantPlan(t, says(&extra.SocketEntry{Backlog: proto.Uint32(3)}), "unix SOCK_STREAM, listening at \"@x\", backlog 3", door)

	for _, tt := range []struct {
		name, want string
		more       *extra.SocketEntry
		entries    []*fdinfo.FileEntry
	}{
		{"peer of a stream", "socket 20 and to socket 30", &extra.SocketEntry{Peer: proto.Uint32(30)}, []*fdinfo.FileEntry{entry(1, 10, 20), entry(2, 20, 10)}},
		{"peer 0", "to socket 0", &extra.SocketEntry{Peer: proto.Uint32(0)}, []*fdinfo.FileEntry{dgram, server}},
		{"no peer", "is missing", &extra.SocketEntry{Peer: proto.Uint32(99)}, []*fdinfo.FileEntry{dgram, server}},
		{"more room", "can't be", &extra.SocketEntry{Backlog: proto.Uint32(10)}, []*fdinfo.FileEntry{door}},
		{"room of who doesn't listen", "can't be", &extra.SocketEntry{Backlog: proto.Uint32(0)}, []*fdinfo.FileEntry{dgram, server}},
	} {
		if _, err := planAll(says(tt.more), tt.entries...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}
