package socket

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"

	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

func all() Table { return append(append(Common(), Passing()...), Ends()...) }

func TestTable(t *testing.T) {
	type key struct{ level, opt int }
	seen, names := map[key]string{}, map[string]bool{}
	last := Early
	for _, o := range all() {
		k := key{o.Level, o.Opt}
		if seen[k] != "" || names[o.Name] {
			t.Errorf("%s: in the table twice (%s)", o.Name, seen[k])
		}
		seen[k], names[o.Name] = o.Name, true
		if o.Size != 4 && o.Size != 8 && o.Size != 16 {
			t.Errorf("%s: %d bytes", o.Name, o.Size)
		}
		if o.After != "" && !names[o.After] {
			t.Errorf("%s: %s, which it goes after, isn't before it", o.Name, o.After)
		}
		if o.When > Last || o.When == Early && last == Last {
			t.Errorf("%s: out of order", o.Name)
		}
		last = o.When
	}
}

func newPair(t testing.TB) (a, b int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func newKernel(t testing.TB) *Kernel {
	t.Helper()
	a, _ := newPair(t)
	k, err := NewKernel(all(), a)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// changed returns a value that a new socket doesn't have.
func changed(o *Option, fresh Value) Value {
	switch o.Opt {
	case unix.SO_SNDBUF, unix.SO_RCVBUF:
		return Uint(40000)
	case unix.SO_LINGER:
		return Value{Lo: 1 | 7<<32, OK: true}
	case unix.SO_RCVTIMEO, unix.SO_SNDTIMEO:
		return Value{Lo: 3, Hi: 40000, OK: true}
	case unix.SO_BUF_LOCK:
		return Uint(2)
	case unix.SO_TIMESTAMPING, unix.SO_TIMESTAMPING_NEW:
		return Value{Lo: 1 << 4, OK: true} // SOF_TIMESTAMPING_SOFTWARE
	case unix.SO_MAX_PACING_RATE:
		return Value{Lo: 12345678901, OK: true}
	case unix.SO_RCVLOWAT, unix.SO_PRIORITY, unix.SO_MARK, unix.SO_PEEK_OFF, unix.SO_BUSY_POLL:
		return Uint(5)
	}
	return Value{Lo: fresh.Lo&0xffffffff ^ 1, OK: true}
}

// Every option that the kernel has, changed on one socket, comes back on
// another one: each alone and all together.
func TestEveryOption(t *testing.T) {
	k := newKernel(t)
	root := unix.Geteuid() == 0
	var set []int
	for i := range k.Table {
		o := &k.Table[i]
		if !k.Fresh[i].OK || k.fixed[i] || o.Cap != 0 && !root {
			continue
		}
		set = append(set, i)
		t.Run(o.Name, func(t *testing.T) { roundTrip(t, k, i) })
	}
	if len(set) < 30 {
		t.Errorf("only %d options were exercised", len(set))
	}
	t.Run("all", func(t *testing.T) { roundTrip(t, k, set...) })
}

func roundTrip(t *testing.T, k *Kernel, options ...int) {
	a, _ := newPair(t)
	for _, i := range options {
		if err := k.set(linux.Hand{}, a, i, changed(&k.Table[i], k.Fresh[i])); err != nil {
			t.Fatal(err)
		}
	}
	before := save(t, k, a)
	for _, i := range options {
		if before.Values[i] == k.Fresh[i] && k.Table[i].Name != "SO_TIMESTAMP" && k.Table[i].Name != "SO_TIMESTAMPNS" {
			t.Errorf("%s is as on a new socket", k.Table[i].Name)
		}
	}
	loaded, err := (&Loader{Table: all()}).Load(Entries{Sock: marshal(t, before.Entry)}, before.Options)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := newPair(t)
	if err := k.Set(b, loaded.Values, Early, Last); err != nil {
		t.Fatal(err)
	}
	after := save(t, k, b)
	for i := range k.Table {
		if before.Values[i] != after.Values[i] {
			t.Errorf("%s: %+v before, %+v after", k.Table[i].Name, before.Values[i], after.Values[i])
		}
	}
}

func save(t *testing.T, k *Kernel, fd int) Saved {
	t.Helper()
	s, err := k.Save(fd, make([]Value, len(k.Table)), true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// marshal takes an entry through its image form, where required fields must be
// there.
func marshal(t *testing.T, e *sk_opts.SkOptsEntry) *sk_opts.SkOptsEntry {
	t.Helper()
	b, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var out sk_opts.SkOptsEntry
	if err := proto.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestLingerThatWasOn(t *testing.T) {
	k := newKernel(t)
	a, _ := newPair(t)
	i := k.Table.named("SO_LINGER")
	for _, v := range []Value{{Lo: 1 | 7<<32}, {Lo: 0}} {
		if err := k.Table[i].set(linux.Hand{}, a, unix.SO_LINGER, v); err != nil {
			t.Fatal(err)
		}
	}
	s := save(t, k, a)
	if s.Values[i].Lo != 7<<32 || s.Entry.SoLinger != nil || len(s.Options) != 1 {
		t.Fatalf("%+v, entry %v, more %v", s.Values[i], s.Entry, s.Options)
	}
	roundTrip(t, k)
	b, _ := newPair(t)
	if err := k.Set(b, s.Values, Early, Last); err != nil {
		t.Fatal(err)
	}
	if got := save(t, k, b).Values[i]; got != s.Values[i] {
		t.Errorf("%+v, want %+v", got, s.Values[i])
	}
}

func TestFilter(t *testing.T) {
	k := newKernel(t)
	a, _ := newPair(t)
	prog := []unix.SockFilter{{Code: 0x28, K: 12}, {Code: 0x15, Jt: 0, Jf: 1, K: 0x86dd}, {Code: 6, K: 0xffffffff}, {Code: 6}}
	if err := unix.SetsockoptSockFprog(a, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 4, Filter: &prog[0]}); err != nil {
		t.Fatal(err)
	}
	s := save(t, k, a)
	b, _ := newPair(t)
	if err := Attach(b, marshal(t, s.Entry)); err != nil {
		t.Fatal(err)
	}
	got, err := ReadAttachment(b, true)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(prog, got.Filter); d != "" {
		t.Error(d)
	}
}

func TestDevice(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("needs root")
	}
	k := newKernel(t)
	a, _ := newPair(t)
	if err := unix.SetsockoptString(a, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo"); err != nil {
		t.Fatal(err)
	}
	s := save(t, k, a)
	if s.Entry.GetSoBoundDev() != "lo" {
		t.Fatalf("device %q", s.Entry.GetSoBoundDev())
	}
	b, _ := newPair(t)
	if err := Attach(b, s.Entry); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAttachment(b, false); err != nil || got.Device != "lo" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSharing(t *testing.T) {
	k := newKernel(t)
	a, b := newPair(t)
	if save(t, k, a).Entry != save(t, k, b).Entry {
		t.Error("equal options have two entries")
	}
	if err := unix.SetsockoptInt(b, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	if save(t, k, a).Entry == save(t, k, b).Entry {
		t.Error("different options have one entry")
	}
}

func TestDecodeBad(t *testing.T) {
	option := func(level, name uint32, n int) []*extra.SocketOption {
		return []*extra.SocketOption{{Level: &level, Name: &name, Value: make([]byte, n)}}
	}
	for name, more := range map[string][]*extra.SocketOption{
		"unknown option": option(unix.SOL_SOCKET, 9999, 4),
		"unknown level":  option(77, unix.SO_DEBUG, 4),
		"short value":    option(unix.SOL_SOCKET, unix.SO_DEBUG, 3),
		"long value":     option(unix.SOL_SOCKET, unix.SO_DEBUG, 64),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := (&Loader{Table: all()}).Load(Entries{Sock: &sk_opts.SkOptsEntry{}}, more); err == nil {
				t.Error("taken")
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(&sk_opts.SkOptsEntry{SoSndbuf: proto.Uint32(1), SoLinger: proto.Uint32(9), SoFilter: []uint64{1, 2}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint32(1), uint32(1), []byte{1, 0, 0, 0})
	l := &Loader{Table: all()}
	f.Fuzz(func(t *testing.T, b []byte, level, name uint32, value []byte) {
		var e sk_opts.SkOptsEntry
		_ = proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, &e)
		s, err := l.Load(Entries{Sock: &e}, []*extra.SocketOption{{Level: &level, Name: &name, Value: value}})
		if err == nil && len(s.Values) != len(l.Table) {
			t.Errorf("%d values for %d options", len(s.Values), len(l.Table))
		}
	})
}

func BenchmarkSave(b *testing.B) {
	k := newKernel(b)
	s, _ := newPair(b)
	values := make([]Value, len(k.Table))
	b.ReportAllocs()
	for b.Loop() {
		clear(values)
		if _, err := k.Save(s, values, false); err != nil {
			b.Fatal(err)
		}
	}
}
