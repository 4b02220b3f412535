package file

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/pipe"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
)

func newPipeFDs(t *testing.T, flags int) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], flags|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return own(t, p[0], nil), own(t, p[1], nil)
}

func write(t *testing.T, n int, s string) {
	t.Helper()
	if got, err := unix.Write(n, []byte(s)); err != nil || got != len(s) {
		t.Fatalf("wrote %d of %d bytes: %v", got, len(s), err)
	}
}

// readAll reads what is in a pipe, piece by piece.
func readAll(t *testing.T, n int) (pieces []string, end error) {
	t.Helper()
	if err := unix.SetNonblock(n, true); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<20)
	for {
		got, err := unix.Read(n, b)
		if err != nil || got == 0 {
			return pieces, err
		}
		pieces = append(pieces, string(b[:got]))
	}
}

func TestPipeRoundTrip(t *testing.T) {
	r, w := newPipeFDs(t, unix.O_NONBLOCK)
	write(t, w, "hello, ")
	write(t, w, "world")
	if err := unix.SetNonblock(w, false); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.add(r)
	g.add(w)
	made := g.roundTrip()
	if got, err := readAll(t, r); fmt.Sprint(got) != "[hello, world]" || err != unix.EAGAIN {
		t.Errorf("the original has %q, %v", got, err)
	}
	nr, nw := made[1].Int(), made[2].Int()
	if f := flagsOf(t, nr); f != unix.O_RDONLY|unix.O_NONBLOCK {
		t.Errorf("flags of the reader are %#o", f)
	}
	if f := flagsOf(t, nw); f != unix.O_WRONLY {
		t.Errorf("flags of the writer are %#o", f)
	}
	write(t, nw, "!")
	if got, err := readAll(t, nr); fmt.Sprint(got) != "[hello, world!]" || err != unix.EAGAIN {
		t.Errorf("the new one has %q, %v", got, err)
	}
}

func TestPipeFullAndLarge(t *testing.T) {
	r, w := newPipeFDs(t, unix.O_NONBLOCK)
	const size = 256 << 10
	if _, err := unix.FcntlInt(uintptr(w), unix.F_SETPIPE_SZ, size); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	write(t, w, string(data))
	g := self(t)
	g.add(w) // the writer first
	g.add(r)
	made := g.roundTrip()
	nr, nw := made[2].Int(), made[1].Int()
	if got, err := unix.FcntlInt(uintptr(nr), unix.F_GETPIPE_SZ, 0); err != nil || got != size {
		t.Errorf("it holds %d bytes, %v", got, err)
	}
	if _, err := unix.Write(nw, []byte("x")); err != unix.EAGAIN {
		t.Errorf("a full pipe took more: %v", err)
	}
	if got, _ := readAll(t, nr); strings.Join(got, "") != string(data) {
		t.Error("the data differ")
	}
}

// splice(2) puts more than a page into a buffer, so that a pipe holds more than its size.
func TestPipeSpliced(t *testing.T) {
	r, w := newPipeFDs(t, unix.O_NONBLOCK)
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<10) // the kernel has 32 KiB in a piece, mostly
	var want []byte
	for err := error(nil); err == nil; {
		p, e := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if e != nil {
			t.Fatal(e)
		}
		write(t, p[0], string(data))
		var n int64
		if n, err = unix.Splice(p[1], nil, w, nil, len(data), unix.SPLICE_F_NONBLOCK); n > 0 {
			want = append(want, data[:n]...)
		}
		unix.Close(p[0])
		unix.Close(p[1])
	}
	if len(want) <= defaultPipeSize {
		t.Skipf("the kernel had no memory in larger pieces than pages: the pipe holds %d bytes", len(want))
	}
	g := self(t)
	g.add(r)
	g.add(w)
	made := g.roundTrip()
	for _, n := range []int{made[1].Int(), r} { // the first is as it was
		if got, _ := readAll(t, n); strings.Join(got, "") != string(want) {
			t.Errorf("%d bytes are there, not the %d that were", len(strings.Join(got, "")), len(want))
		}
	}
}

// Data in many small pieces take a slot each, and fewer when written anew.
func TestPipeSmall(t *testing.T) {
	r, w := newPipeFDs(t, 0)
	if _, err := unix.FcntlInt(uintptr(w), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	write(t, w, strings.Repeat("x", 4096))
	g := self(t)
	g.add(r)
	g.add(w)
	made := g.roundTrip()
	if got, _ := readAll(t, made[1].Int()); len(strings.Join(got, "")) != 4096 {
		t.Errorf("%d bytes came back", len(strings.Join(got, "")))
	}
}

func TestPipePackets(t *testing.T) {
	r, w := newPipeFDs(t, unix.O_DIRECT)
	for _, s := range []string{"one", "two", "three"} {
		write(t, w, s)
	}
	g := self(t)
	g.add(r)
	g.add(w)
	made := g.roundTrip()
	write(t, made[2].Int(), "four")
	if got, _ := readAll(t, made[1].Int()); fmt.Sprint(got) != "[one two three four]" {
		t.Errorf("packets are %q", got)
	}
	if flagsOf(t, made[2].Int())&unix.O_DIRECT == 0 {
		t.Error("packet mode is lost")
	}
	if got, _ := readAll(t, r); fmt.Sprint(got) != "[one two three]" {
		t.Errorf("the original has %q", got)
	}
}

// Packets that were written before packet mode was left stay packets.
func TestPipePacketsLeft(t *testing.T) {
	r, w := newPipeFDs(t, unix.O_DIRECT)
	write(t, w, "one")
	write(t, w, "two")
	if _, err := unix.FcntlInt(uintptr(w), unix.F_SETFL, 0); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.add(r)
	g.add(w)
	made := g.roundTrip()
	if flagsOf(t, made[2].Int())&unix.O_DIRECT != 0 {
		t.Error("packet mode came from nowhere")
	}
	if got, _ := readAll(t, made[1].Int()); fmt.Sprint(got) != "[one two]" {
		t.Errorf("packets are %q", got)
	}
}

// What waits stays what it was when it was written, whatever the writer's mode
// is by now.
func TestPipeMixed(t *testing.T) {
	const packet, plain = true, false
	for _, c := range []struct {
		n    []int
		mode []bool
		want []pipePiece
	}{
		{[]int{3, 12513}, []bool{packet, plain}, []pipePiece{{3, false}, {12513, true}}},
		{[]int{4094, 10, 7}, []bool{plain, packet, plain}, []pipePiece{{4094, true}, {10, false}, {7, true}}},
		{[]int{1, 1}, []bool{packet, plain}, []pipePiece{{1, false}, {1, true}}},
		{[]int{9, 8, 1}, []bool{plain, packet, plain}, nil},
		{[]int{4095, 8, 1}, []bool{plain, packet, plain}, []pipePiece{{4095, true}, {8, false}, {1, true}}},
		{[]int{1}, []bool{packet}, []pipePiece{{1, false}}},
		{[]int{5}, []bool{packet}, []pipePiece{{5, false}}},
		{[]int{1}, []bool{plain}, nil},
		{[]int{65536}, []bool{plain}, nil},
		{[]int{65536 - 4096, 4096}, []bool{plain, packet}, []pipePiece{{65536 - 4096, true}, {4096, false}}},
		{[]int{65536 - 4096, 1}, []bool{plain, packet}, []pipePiece{{65536 - 4096, true}, {1, false}}},
		// A write of any mode fills up the last page.
		{[]int{5, 3}, []bool{plain, packet}, nil},
	} {
		for _, last := range []bool{packet, plain} {
			r, w := newPipeFDs(t, 0)
			for i, n := range c.n {
				setPackets(t, w, c.mode[i])
				write(t, w, strings.Repeat(string(rune('a'+i)), n))
			}
			setPackets(t, w, last)
			g := self(t)
			g.add(r)
			g.add(w)
			made := g.roundTrip()
			for _, end := range []int{r, made[1].Int()} {
				n, err := unix.IoctlGetInt(end, unix.TIOCINQ)
				if err != nil {
					t.Fatal(err)
				}
				q, err := lookInto(fd.New(end), n, defaultPipeSize)
				if err != nil || !slices.Equal(q.pieces, c.want) {
					t.Errorf("%v, then packets %t: there is %v, want %v, %v", c.n, last, q.pieces, c.want, err)
				}
				// Buffer by buffer.
				want := c.want
				if want == nil {
					want = []pipePiece{{uint32(n), true}}
				}
				each, err := piecesOf(fd.New(end), n, defaultPipeSize)
				if err != nil || !slices.Equal(each.pieces, want) || !bytes.Equal(each.data, q.data) {
					t.Errorf("%v, then packets %t: one by one there is %v, want %v, %v", c.n, last, each.pieces, want, err)
				}
			}
		}
	}
}

func setPackets(t *testing.T, w int, packets bool) {
	t.Helper()
	mode := 0
	if packets {
		mode = unix.O_DIRECT
	}
	if _, err := unix.FcntlInt(uintptr(w), unix.F_SETFL, mode); err != nil {
		t.Fatal(err)
	}
}

func TestPipeSeveralDescriptions(t *testing.T) {
	r, w := newPipeFDs(t, 0)
	r2 := open(t, fmt.Sprintf("/proc/self/fd/%d", r), unix.O_RDONLY|unix.O_NONBLOCK)
	both := open(t, fmt.Sprintf("/proc/self/fd/%d", w), unix.O_RDWR)
	write(t, w, "abc")
	g := self(t)
	for _, n := range []int{both, r2, r, w} {
		g.add(n)
	}
	made := g.roundTrip()
	for i, n := range []int{both, r2, r, w} {
		got, want := flagsOf(t, made[plan.ID(i+1)].Int()), flagsOf(t, n)
		if got&^unix.O_LARGEFILE&^0o100000 != want&^0o100000 {
			t.Errorf("description %d has flags %#o, want %#o", i+1, got, want)
		}
	}
	write(t, made[1].Int(), "def")
	if got, _ := readAll(t, made[2].Int()); fmt.Sprint(got) != "[abcdef]" {
		t.Errorf("it has %q", got)
	}
}

func TestPipeOneEnd(t *testing.T) {
	t.Run("no writers", func(t *testing.T) {
		r, w := newPipeFDs(t, 0)
		write(t, w, "last")
		unix.Close(w)
		g := self(t)
		g.add(r)
		made := g.roundTrip()
		if got, err := readAll(t, made[1].Int()); fmt.Sprint(got) != "[last]" || err != nil {
			t.Errorf("got %q, %v; want the end of the file", got, err)
		}
		if e := events(t, made[1].Int()); e != unix.POLLHUP {
			t.Errorf("poll tells %#x", e)
		}
	})
	t.Run("no readers", func(t *testing.T) {
		r, w := newPipeFDs(t, 0)
		write(t, w, "unread")
		unix.Close(r)
		g := self(t)
		g.add(w)
		g.mustDump()
		if all, _ := g.im.Entries(image.PipesData); string(all[0].Payload) != "unread" {
			t.Errorf("dumped %q", all[0].Payload)
		}
		made := newRedo(t, g.im).mustCreate()
		if e := events(t, made[1].Int()); e&unix.POLLERR == 0 {
			t.Errorf("poll tells %#x", e)
		}
		if n, err := unix.IoctlGetInt(made[1].Int(), unix.TIOCINQ); n != 6 || err != nil {
			t.Errorf("%d bytes are in it, %v", n, err)
		}
	})
	t.Run("outside", func(t *testing.T) {
		r, w := newPipeFDs(t, 0)
		g := self(t)
		g.add(r)
		mustFail(t, g.dump(), "its end for writing is held outside", "pipe:[")
		g = self(t)
		g.add(w)
		mustFail(t, g.dump(), "its end for reading is held outside", "pipe:[")
	})
}

func events(t *testing.T, n int) int16 {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}
	if _, err := testkit.PollFds(p, 0); err != nil {
		t.Fatal(err)
	}
	return p[0].Revents
}

func TestPipeOwner(t *testing.T) {
	r, w := newPipeFDs(t, 0)
	if err := unix.Fchown(r, 65534, 65533); err != nil {
		testkit.Lacks(t, "chown(2)", err)
	}
	if err := unix.Fchmod(r, 0o622); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.add(r)
	g.add(w)
	made := g.roundTrip()
	var st unix.Stat_t
	if err := unix.Fstat(made[2].Int(), &st); err != nil || st.Uid != 65534 || st.Gid != 65533 || st.Mode&0o7777 != 0o622 {
		t.Errorf("it belongs to %d:%d, mode %#o, %v", st.Uid, st.Gid, st.Mode, err)
	}
}

// pipeImages is an image with pipes: for each number of flags one end.
func pipeImages(id uint32, flags ...uint32) *images {
	im := &images{}
	for i, f := range flags {
		n := proto.Uint32(uint32(i) + 1)
		e := &pipe.PipeEntry{Id: n, PipeId: proto.Uint32(id), Flags: proto.Uint32(f), Fown: noOwner()}
		_ = im.Put(image.Files, &fdinfo.FileEntry{Id: n, Type: fdinfo.FdTypes_PIPE.Enum(), Pipe: e}, nil)
	}
	return im
}

func dataEntry(id, n, size uint32) *pipedata.PipeDataEntry {
	return &pipedata.PipeDataEntry{PipeId: proto.Uint32(id), Bytes: proto.Uint32(n), Size: proto.Uint32(size)}
}

func TestPipePlan(t *testing.T) {
	im := pipeImages(7, 1, 0, 1, 2)
	_ = im.Put(image.PipesData, dataEntry(7, 3, 65536), []byte("abc"))
	p, err := planAll(im, nil)
	if err != nil {
		t.Fatal(err)
	}
	nodes, _ := p.Nodes()
	var got []string
	for _, n := range nodes {
		got = append(got, fmt.Sprint(n, n.Needs()))
	}
	want := []string{
		"pipe 0x1: write end of pipe 0x7, made with 3 bytes in it []",
		"pipe 0x2: read end of pipe 0x7 [1]",
		"pipe 0x3: write end of pipe 0x7 [1]",
		"pipe 0x4: read and write end of pipe 0x7 [1]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Error(strings.Join(got, "\n"))
	}
}

func TestPipeHostile(t *testing.T) {
	twice := pipeImages(7, 0)
	_ = twice.Put(image.PipesData, dataEntry(7, 1, 0), []byte("a"))
	_ = twice.Put(image.PipesData, dataEntry(7, 1, 0), []byte("b"))
	large := pipeImages(7, 0)
	_ = large.Put(image.PipesData, dataEntry(7, 0, 1<<32-1), nil)
	withPackets := func(lengths ...byte) *images {
		im, e := pipeImages(7, 0), dataEntry(7, 3, 0)
		putBytes(e, pipePackets, lengths)
		_ = im.Put(image.PipesData, e, []byte("abc"))
		return im
	}
	for _, c := range []struct {
		im   *images
		want string
	}{
		{twice, "is there twice"},
		{large, "size of 4294967295"},
		{withPackets(4), "a packet of 4 bytes where 3 are left"},
		{withPackets(2), "leave 1 bytes over"},
		{withPackets(1, 0), "a packet of 0 bytes"},
		{withPackets(0x80), "a packet of 0 bytes"},
		{withPackets(0, 0), "a packet of 0 bytes"},
		{withPackets(0, 4), "a packet of 4 bytes where 3 are left"},
		{withPackets(0, 2), "leave 1 bytes over"},
		{pipeImages(7, 3), "flags 03"},
	} {
		_, err := planAll(c.im, nil)
		mustFail(t, err, c.want)
	}
	// More than fits is an error, not an endless wait.
	full, e := pipeImages(7, 0, 1), dataEntry(7, 20, 0)
	putBytes(e, pipePackets, bytes.Repeat([]byte{1}, 20)) // each takes one of 16 buffers
	_ = full.Put(image.PipesData, e, make([]byte, 20))
	mustFail(t, newRedo(t, full).create(), "are left")
}

func TestPipeCheck(t *testing.T) {
	most, err := pipeMaxSize()
	if err != nil {
		t.Fatal(err)
	}
	im := pipeImages(7, 0, 1)
	_ = im.Put(image.PipesData, dataEntry(7, 0, uint32(2*most)), nil)
	p, err := planAll(im, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(capable bool) error {
		return p.Node(1).(*pipeNode).Check(&plan.CheckEnv{Capable: func(int) bool { return capable }})
	}
	mustFail(t, check(false), "raise /proc/sys/fs/pipe-max-size")
	if err := check(true); err != nil {
		t.Error(err)
	}
}

func TestPipeDrop(t *testing.T) {
	r := newRedo(t, pipeImages(7, 0, 1))
	n := r.plan.Node(1).(*pipeNode)
	d, err := n.Create(t.Context(), r.env)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	n.Drop()
	n.Drop()
	if e := events(t, d.Int()); e != unix.POLLHUP {
		t.Errorf("the other end is still held: poll tells %#x", e)
	}
}
