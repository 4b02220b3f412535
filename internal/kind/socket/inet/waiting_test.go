package inet

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// waitingImages are those of a listener at which clients wait, each after it did
// something.
func waitingImages(t *testing.T, acts ...func(c int) error) images {
	t.Helper()
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), len(acts)))
	for _, act := range acts {
		must(t, act(client(t, tcp4, d.Int()).Int()))
	}
	o := &options.Dump{}
	o.TCPEstablished = true
	in, err := dumped(t, o, d.Int())
	testkit.KernelMemory(t, err)
	holdAll(t, in)
	must(t, d.Close())
	return in
}

// holdAll holds packets of the images' connections back until the test is over, or let
// is called.
func holdAll(t *testing.T, in images) (let func()) {
	t.Helper()
	nodes, err := planned(in)
	must(t, err)
	l, err := netlock.Open()
	must(t, err)
	t.Cleanup(func() { l.Close() })
	// Several tries of a test may hold some.
	if err := l.Hold(fmt.Sprintf("glis-test-waiting-%x", rand.Uint32()), nodes[0].(plan.Locked).Flows(nil)); err != nil {
		lacksRules(t, err)
	}
	return func() { must(t, l.Release()) }
}

func TestWaiting(t *testing.T) {
	in := waitingImages(t,
		func(c int) error { return unix.Sendmsg(c, []byte("first"), nil, nil, 0) },
		func(c int) error { return unix.Shutdown(c, unix.SHUT_WR) },
		func(c int) error { return unix.Sendmsg(c, []byte("last"), nil, nil, 0) })
	fds := restored(t, in)
	for _, want := range []string{"first", "", "last"} {
		n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		must(t, err)
		defer unix.Close(n)
		var b [10]byte
		got, err := unix.Read(n, b[:])
		if err != nil || string(b[:got]) != want {
			t.Errorf("read %q, %v, want %q", b[:max(0, got)], err, want)
		}
	}
}

// A client that was reset while it waited may have come again from the same port: both wait.
func TestWaitingTwice(t *testing.T) {
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 5))
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	from := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	for _, text := range []string{"first", "second", "last"} {
		c := tcp4.make(t)
		must(t, unix.SetsockoptInt(c.Int(), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		must(t, unix.Bind(c.Int(), from))
		if from.Port == 0 {
			own, err := unix.Getsockname(c.Int())
			must(t, err)
			from.Port = int(decode(own).port)
		}
		must(t, unix.Connect(c.Int(), at))
		must(t, unix.Sendmsg(c.Int(), []byte(text), nil, nil, 0))
		if text != "last" {
			must(t, unix.SetsockoptLinger(c.Int(), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
			must(t, c.Close())
		}
	}
	fds := madeAgain(t, d)
	must(t, unix.SetNonblock(fds[1], true))
	for _, want := range []struct {
		err  int
		text string
	}{{int(unix.ECONNRESET), "first"}, {int(unix.ECONNRESET), "second"}, {0, "last"}} {
		n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		must(t, err)
		defer unix.Close(n)
		failed, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ERROR)
		must(t, err)
		var b [10]byte
		got, err := unix.Read(n, b[:])
		must(t, err)
		if failed != want.err || string(b[:got]) != want.text {
			t.Errorf("error %d, read %q, want %d, %q", failed, b[:got], want.err, want.text)
		}
	}
}

// Others who come to the listener meanwhile take no room from those who waited.
func TestWaitingCrowd(t *testing.T) {
	send := func(c int) error { return unix.Sendmsg(c, []byte("waited"), nil, nil, 0) }
	in := waitingImages(t, send, send)
	at := in[of(image.Files)][0].Message.(*fdinfo.FileEntry).Isk
	to := &unix.SockaddrInet4{Port: int(at.GetSrcPort()), Addr: [4]byte{127, 0, 0, 1}}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return
			}
			defer unix.Close(c)
			_ = unix.Connect(c, to) // refused as long as nobody listens
		}
	}()
	fds := restored(t, in)
	close(stop)
	<-done
	must(t, unix.SetNonblock(fds[1], true))
	waited := 0
	for {
		n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			break
		}
		defer unix.Close(n)
		var b [10]byte
		if got, _, err := unix.Recvfrom(n, b[:], unix.MSG_DONTWAIT); err == nil && string(b[:got]) == "waited" {
			waited++
		}
	}
	if waited != 2 {
		t.Errorf("%d of 2 who waited are there", waited)
	}
}

// A client that takes small segments only, and was reset while it waited, is sent none.
func TestWaitingSmallReset(t *testing.T) {
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 1))
	at, err := unix.Getsockname(d.Int())
	must(t, err)
	c := tcp4.make(t)
	must(t, unix.SetsockoptInt(c.Int(), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 200))
	must(t, unix.Connect(c.Int(), at))
	must(t, unix.Sendmsg(c.Int(), []byte("text"), nil, nil, 0))
	abort(t, c)
	fds := madeAgain(t, d)
	n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	must(t, err)
	defer unix.Close(n)
	failed, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ERROR)
	must(t, err)
	var b [10]byte
	if got, err := unix.Read(n, b[:]); err != nil || string(b[:got]) != "text" || unix.Errno(failed) != unix.ECONNRESET {
		t.Errorf("read %q, %v, after error %d", b[:max(0, got)], err, failed)
	}
}

// A client may have come to another port than that which the listener is bound to: rules
// (tproxy) and programs (sk_lookup) lead it there.
func TestWaitingElsewhere(t *testing.T) {
	in := waitingImages(t, func(c int) error { return unix.Sendmsg(c, []byte("first"), nil, nil, 0) })
	e := in[of(extra.TCPWaiting)][0].Message.(*extra.WaitingTCP)
	want := uint16(e.GetLocalPort() - 1)
	e.LocalPort = proto.Uint32(uint32(want))
	holdAll(t, in)
	fds := restored(t, in)
	n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	must(t, err)
	defer unix.Close(n)
	var b [10]byte
	got, err := unix.Read(n, b[:])
	if err != nil || string(b[:got]) != "first" {
		t.Errorf("read %q, %v", b[:max(0, got)], err)
	}
	sa, err := unix.Getsockname(n)
	if err != nil || decode(sa).port != want {
		t.Errorf("it is at %v, %v, want port %d", decode(sa), err, want)
	}
}

// At an address that the machine doesn't have, as such rules may give one, nothing could be put
// back: that is said before the tree is ended.
func TestWaitingAway(t *testing.T) {
	testkit.RequireRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	here, away := testkit.Here(), "192.0.2.9/32"
	here.Up(t, "lo")
	here.Address(t, "lo", away)
	d := tcp4.bound(t, "0.0.0.0")
	must(t, unix.Listen(d.Int(), 1))
	sa, err := unix.Getsockname(d.Int())
	must(t, err)
	c := tcp4.make(t)
	must(t, unix.Connect(c.Int(), &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 9}, Port: int(decode(sa).port)}))
	o := &options.Dump{}
	o.TCPEstablished = true
	in, err := dumped(t, o, d.Int())
	testkit.KernelMemory(t, err)
	here.NoAddress(t, "lo", away)
	const want = "one at 192.0.2.9: this machine doesn't have that address"
	if _, err := dumped(t, o, d.Int()); !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), want) {
		t.Errorf("without its address: %v", err)
	}
	nodes, err := planned(in)
	must(t, err)
	if err := nodes[0].(plan.Checked).Check(&plan.CheckEnv{Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a restore without it: %v", err)
	}
}

// Who waits may have sent more than fits a receive buffer by pieces; and the listener
// has the buffer that it had.
func TestWaitingFull(t *testing.T) {
	piece := make([]byte, 50_000)
	fill := func(c int) error {
		sent := 0
		must(t, unix.SetNonblock(c, true))
		for {
			for i := range piece {
				piece[i] = byte((sent + i) % 251)
			}
			n, err := unix.Write(c, piece)
			if err == nil {
				sent += n
				continue
			}
			// The peer's kernel makes room for a while, as segments come.
			ready, err := testkit.PollFds([]unix.PollFd{{Fd: int32(c), Events: unix.POLLOUT}}, 200)
			if ready == 0 || err != nil {
				return err
			}
		}
	}
	var in images
	var want []byte
	// How much there comes to be depends on how segments come: mostly more than fits into a
	// usual buffer, after which nothing is as it was; on some days never.
	for tries := 0; len(want) < 110_000 && tries < 20; tries++ {
		in = waitingImages(t, fill)
		want = in[of(extra.TCPWaiting)][0].Message.(*extra.WaitingTCP).GetUnread()
	}
	t.Logf("%d bytes wait", len(want))
	fds := restored(t, in)
	n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	must(t, err)
	defer unix.Close(n)
	got := make([]byte, len(want)+1)
	k, _, err := unix.Recvfrom(n, got, unix.MSG_WAITALL)
	must(t, err)
	if !slices.Equal(got[:k], want) {
		t.Errorf("%d bytes come, not the %d that waited", k, len(want))
	}
	usual := tcp4.make(t)
	for _, opt := range []int{unix.SO_RCVBUF, unix.SO_BUF_LOCK} {
		a, err := unix.GetsockoptInt(fds[1], unix.SOL_SOCKET, opt)
		must(t, err)
		b, err := unix.GetsockoptInt(usual.Int(), unix.SOL_SOCKET, opt)
		must(t, err)
		if a != b {
			t.Errorf("option %d of the listener is %d, was %d", opt, a, b)
		}
	}
}

// Urgent data comes back as such, with what is before and behind it.
func TestWaitingUrgent(t *testing.T) {
	in := waitingImages(t, func(c int) error {
		return errors.Join(unix.Sendmsg(c, []byte("before!"), nil, nil, unix.MSG_OOB), unix.Sendmsg(c, []byte("behind"), nil, nil, 0))
	})
	fds := restored(t, in)
	n, _, err := unix.Accept4(fds[1], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	must(t, err)
	defer unix.Close(n)
	for _, want := range []struct {
		data  string
		flags int
	}{{"!", unix.MSG_OOB}, {"before", 0}, {"behind", 0}} {
		var b [20]byte
		got, _, err := unix.Recvfrom(n, b[:], want.flags)
		if err != nil || string(b[:got]) != want.data {
			t.Errorf("read %q, %v, want %q", b[:max(0, got)], err, want.data)
		}
	}
}

// wired joins this namespace to another one, in which it returns it.
func wired(t *testing.T) (there *testkit.Net) {
	t.Helper()
	testkit.RequireRoot(t)
	here, there := testkit.Here(), testkit.NewNet(t)
	testkit.Veth(t, here, "glis-a", there, "glis-b")
	for _, at := range []string{"fe80::a/64", "10.77.0.1/24", "fd77::a/64"} {
		here.Address(t, "glis-a", at)
	}
	for _, at := range []string{"fe80::b/64", "10.77.0.2/24", "fd77::b/64"} {
		there.Address(t, "glis-b", at)
	}
	return there
}

// Clients from another namespace wait at listeners that belong to an interface, by
// its link-local address, or are theirselves such, and go on with who accepts them.
func TestWaitingAtInterface(t *testing.T) {
	there := wired(t)
	for _, x := range []struct {
		name, dial string
		family     int
		at         unix.Sockaddr
		device     string
	}{
		{"bound", "10.77.0.1", unix.AF_INET, &unix.SockaddrInet4{}, "glis-a"},
		{"bound, IPv6", "fd77::a", unix.AF_INET6, &unix.SockaddrInet6{}, "glis-a"},
		{"link-local", "fe80::a%glis-b", unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte{0xfe, 0x80, 15: 0xa}}, ""},
		{"link-local client", "fe80::a%glis-b", unix.AF_INET6, &unix.SockaddrInet6{}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			d := sort{family: x.family, protocol: unix.IPPROTO_TCP}.make(t)
			if x.device != "" {
				must(t, unix.SetsockoptString(d.Int(), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, x.device))
			}
			if a, ok := x.at.(*unix.SockaddrInet6); ok && a.Addr[0] == 0xfe {
				a.ZoneId = uint32(testkit.Here().Index(t, "glis-a"))
			}
			must(t, unix.Bind(d.Int(), x.at))
			must(t, unix.Listen(d.Int(), 5))
			sa, err := unix.Getsockname(d.Int())
			must(t, err)
			c, err := there.Dial("tcp", net.JoinHostPort(x.dial, fmt.Sprint(decode(sa).port)))
			must(t, err)
			defer c.Close()
			_, err = c.Write([]byte("before"))
			must(t, err)
			o := &options.Dump{}
			o.TCPEstablished = true
			in, err := dumped(t, o, d.Int())
			if errors.Is(err, kind.ErrUnsupported) && testkit.Kernel(t).Less(testkit.Version{Major: 6, Minor: 9}) {
				t.Skip("bpf_sk_assign_tcp_reqsk(), Linux 6.9:", err)
			}
			testkit.KernelMemory(t, err)
			let := holdAll(t, in)
			must(t, d.Close())
			fds := restored(t, in)
			let()
			n, from, err := unix.Accept4(fds[1], unix.SOCK_CLOEXEC)
			must(t, err)
			defer unix.Close(n)
			a, ok := from.(*unix.SockaddrInet6)
			if local := ok && a.Addr[0] == 0xfe; local && int(a.ZoneId) != testkit.Here().Index(t, "glis-a") {
				t.Errorf("the client is at interface %d", a.ZoneId)
			}
			must(t, err)
			_, err = c.Write([]byte(" and behind"))
			must(t, err)
			var b [20]byte
			got := 0
			for got < len("before and behind") {
				k, err := unix.Read(n, b[got:])
				must(t, err)
				got += k
			}
			if string(b[:got]) != "before and behind" {
				t.Errorf("read %q", b[:got])
			}
		})
	}
}

func TestWaitingHostile(t *testing.T) {
	good := waitingImages(t, func(int) error { return nil })
	if _, err := planned(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(e *extra.WaitingTCP){
		"no address":      func(e *extra.WaitingTCP) { e.Local = nil },
		"long address":    func(e *extra.WaitingTCP) { e.Remote = make([]byte, 17) },
		"two families":    func(e *extra.WaitingTCP) { e.Remote = make([]byte, 16) },
		"other family":    func(e *extra.WaitingTCP) { e.Local, e.Remote = make([]byte, 16), make([]byte, 16) },
		"no port":         func(e *extra.WaitingTCP) { e.LocalPort = new(uint32) },
		"port":            func(e *extra.WaitingTCP) { e.LocalPort = proto.Uint32(1 << 16) },
		"no peer":         func(e *extra.WaitingTCP) { e.RemotePort = new(uint32) },
		"port of peer":    func(e *extra.WaitingTCP) { e.RemotePort = proto.Uint32(1 << 16) },
		"state":           func(e *extra.WaitingTCP) { e.State = proto.Uint32(2) },
		"closed well":     func(e *extra.WaitingTCP) { e.State = proto.Uint32(7) },
		"failed and open": func(e *extra.WaitingTCP) { e.Error = proto.Uint32(uint32(unix.ECONNRESET)) },
		"stream":          func(e *extra.WaitingTCP) { e.Stream = []byte{1} },
		"empty stream":    func(e *extra.WaitingTCP) { e.Stream = nil },
		"unread":          func(e *extra.WaitingTCP) { e.Unread = []byte{1} },
		"urgent":          func(e *extra.WaitingTCP) { e.Urgent = proto.Uint32(0) },
		"no such option": func(e *extra.WaitingTCP) {
			e.Options = []*extra.SocketOption{{Level: proto.Uint32(99), Name: proto.Uint32(1), Value: make([]byte, 4)}}
		},
		"size of option": func(e *extra.WaitingTCP) {
			e.Options = []*extra.SocketOption{{Level: proto.Uint32(unix.SOL_SOCKET), Name: proto.Uint32(unix.SO_MARK), Value: make([]byte, 3)}}
		},
		"no such listener": func(e *extra.WaitingTCP) { e.Listener = proto.Uint32(2) },
	} {
		in := images{}
		for k, v := range good {
			in[k] = slices.Clone(v)
		}
		b, err := proto.Marshal(good[of(extra.TCPWaiting)][0].Message)
		must(t, err)
		e := &extra.WaitingTCP{}
		must(t, proto.Unmarshal(b, e))
		change(e)
		in[of(extra.TCPWaiting)] = []plan.Entry{{Message: e}}
		if _, err := planned(in); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A socket that doesn't listen has no queue.
	bound := entry(1)
	bound.Isk.State = proto.Uint32(closed)
	good[of(image.Files)][0].Message = bound
	if _, err := planned(good); err == nil {
		t.Error("a socket that doesn't listen: no error")
	}
}

// madeAgain dumps a listener, and restores it with who waits there.
func madeAgain(t *testing.T, d *fd.FD) map[plan.ID]int {
	t.Helper()
	o := &options.Dump{}
	o.TCPEstablished = true
	in, err := dumped(t, o, d.Int())
	testkit.KernelMemory(t, err)
	holdAll(t, in)
	must(t, d.Close())
	return restored(t, in)
}
