package inet

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
)

// What waits to be read from a connection that has ended is where criu has it of
// all connections.
func TestEndedOfCRIU(t *testing.T) {
	for _, c := range []struct {
		inq        uint32
		want, fail string
	}{{3, "asd", ""}, {0, "", ""}, {9, "", "9 wait to be read"}} {
		e := entry(1)
		e.Isk.Proto, e.Isk.Type, e.Isk.State = proto.Uint32(unix.IPPROTO_TCP), proto.Uint32(unix.SOCK_STREAM), proto.Uint32(closed)
		e.Isk.SrcPort, e.Isk.DstPort = proto.Uint32(4000), proto.Uint32(4001)
		in := images{}
		must(t, in.Put(image.Files, e, nil))
		stream := &tcp_stream.TcpStreamEntry{InqLen: &c.inq, InqSeq: new(uint32), OutqLen: new(uint32), OutqSeq: new(uint32), OptMask: new(uint32), SndWscale: new(uint32), MssClamp: proto.Uint32(1000)}
		must(t, in.Put(image.TCPStream, stream, []byte("asdxx"), e.Isk.GetIno()))
		nodes, err := planned(in)
		if c.fail != "" {
			if !strings.Contains(fmt.Sprint(err), c.fail) {
				t.Errorf("error %v, want one with %q", err, c.fail)
			}
			continue
		}
		must(t, err)
		if n := nodes[0].(*node); n.ended == nil || string(n.ended.unread) != c.want {
			t.Errorf("%+v, want %q", n.ended, c.want)
		}
	}
}
