package inet

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/options"
)

// variety makes connections in many states.
func variety(t *testing.T, s sort, ip string) (fds []int) {
	for i := range 24 {
		p := paired(t, s, ip)
		x, y := p.ends[0].Int(), p.ends[1].Int()
		write := func(fd, n int) {
			_, err := unix.Write(fd, bytes.Repeat([]byte{byte(i)}, n))
			must(t, err)
		}
		set := func(level, opt, v int) { must(t, unix.SetsockoptInt(x, level, opt, v)) }
		for _, n := range []int{x, y} { // so that nothing happens later
			must(t, unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1))
		}
		switch i {
		case 1, 2:
			write(x, 1000*i)
		case 7:
			must(t, unix.Shutdown(x, unix.SHUT_RD))
		case 8:
			write(y, 10)
			set(unix.SOL_SOCKET, unix.SO_PEEK_OFF, 3)
		case 9:
			must(t, linux.FcntlSetOwnerEx(x, linux.FOwnerEx{Type: linux.F_OWNER_PID, PID: int32(os.Getpid())}))
		case 10:
			set(unix.SOL_SOCKET, unix.SO_SNDBUF, 30000)
			set(unix.SOL_SOCKET, unix.SO_RCVBUF, 40000)
		case 11:
			set(unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 20000)
		case 12, 13:
			must(t, unix.SetsockoptString(x, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno"))
		case 14, 15:
			if s.family == unix.AF_INET6 {
				set(unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 7)
			}
			set(unix.IPPROTO_IP, unix.IP_TTL, 7)
		case 16, 17:
			set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		case 18:
			write(x, 5000)
			_, err := unix.Read(y, make([]byte, 3000))
			must(t, err)
		case 19, 20:
			set(unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
		}
		fds = append(fds, x, y)
	}
	return fds
}

// What memory tells is what system calls do.
func TestGlimpse(t *testing.T) {
	for _, tt := range []struct {
		sort sort
		ip   string
	}{{tcp4, "127.0.0.1"}, {tcp6, "::1"}, {tcp6, "::ffff:127.0.0.1"}} {
		t.Run(fmt.Sprint(tt.sort, tt.ip), func(t *testing.T) {
			fds := variety(t, tt.sort, tt.ip)
			k := New()
			k.PrepareFor(severalDescriptors, memory(t))
			o := &options.Dump{}
			o.TCPEstablished = true
			got, err := dumpedBy(t, k, o, fds...)
			must(t, err)
			want, err := dumped(t, o, fds...)
			must(t, err)
			compareImages(t, got, want)
			if still := k.alike.still; k.alike.doubt || still < len(fds)/2 {
				t.Errorf("of %d connections %d were dumped by memory alone, doubt: %v", len(fds), still, k.alike.doubt)
			}
		})
	}
}

// compareImages compares two dumps of the same sockets, one after the other.
func compareImages(t *testing.T, got, want images) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d images, not %d", len(got), len(want))
	}
	for name, all := range want {
		if len(got[name]) != len(all) {
			t.Errorf("%v: %d entries, not %d", name, len(got[name]), len(all))
			continue
		}
		for i, e := range all {
			x, y := got[name][i], e
			if name.row == image.TCPStream {
				a, b := x.Message.(*tcp_stream.TcpStreamEntry), y.Message.(*tcp_stream.TcpStreamEntry)
				if a.Timestamp == nil || b.GetTimestamp()-a.GetTimestamp() > 10_000 || (a.GetTimestamp()^b.GetTimestamp())&1 != 0 { // ms
					t.Errorf("%v: time stamp %d, %d a moment later", name, a.GetTimestamp(), b.GetTimestamp())
				}
				a.Timestamp = b.Timestamp
			}
			a, err := proto.Marshal(x.Message)
			must(t, err)
			b, err := proto.Marshal(y.Message)
			must(t, err)
			if !bytes.Equal(a, b) || !bytes.Equal(x.Payload, y.Payload) {
				t.Errorf("%v, %d: %x and %d bytes, want %x and %d", name, i, a, len(x.Payload), b, len(y.Payload))
			}
		}
	}
}

// encoding counts what is put so that it is encoded at once.
type encoding struct {
	kind.Sink
	kept, encoded int
}

func (s *encoding) Put(*image.Row, proto.Message, []byte, ...uint32) error {
	s.kept++
	return nil
}

func (s *encoding) PutNow(*image.Row, proto.Message, []byte, ...uint32) error {
	s.encoded++
	return nil
}

// Images of connections are encoded at once when there are more than a restore is rehearsed of,
// however they were read: a rehearsal doesn't find such.
func TestPutter(t *testing.T) {
	k, s := New(), &encoding{}
	for range mostRehearsed + 1 {
		must(t, k.putterOfNext()(s, image.TCPStream, nil, nil, 1))
	}
	must(t, k.putter()(s, extra.Sockets, nil, nil))
	if s.kept != mostRehearsed+2 || s.encoded != 0 {
		t.Errorf("of few %d are kept, %d encoded", s.kept, s.encoded)
	}
	must(t, k.putterOfNext()(s, image.TCPStream, nil, nil, 1))
	must(t, k.putter()(s, extra.Sockets, nil, nil))
	if s.encoded != 2 {
		t.Errorf("of many %d are encoded", s.encoded)
	}
}
