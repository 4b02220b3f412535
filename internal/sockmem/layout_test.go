package sockmem

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/bpf/bpftest"
	"glis.dev/glis/internal/testkit"
)

// field is a member of a struct and where it is, in bytes.
type field struct {
	name string
	at   uint32
}

// structure is a struct of the kernel's.
type structure struct {
	name   string
	size   uint32
	fields []field
}

// kernel has everything that is asked for.
func kernel() []structure {
	return []structure{
		{"socket", 128, []field{{"sk", 24}, {"flags", 8}}},
		{"unix_sock", 1088, nil},
		{"file", 184, []field{{"f_inode", 40}, {"f_flags", 48}, {"f_owner", 100}}},
		{"sock", 776, []field{{"sk_receive_queue", 192}, {"sk_reuseport_cb", 700}, {"sk_peer_pid", 600}, {"sk_peer_cred", 608}, {"sk_err", 616}, {"sk_shutdown", 620}}},
		{"sk_buff_head", 24, []field{{"qlen", 16}}},
		{"sock_reuseport", 48, []field{{"prog", 24}}},
		{"inode", 600, []field{{"i_ino", 64}, {"i_mode", 0}, {"i_uid", 4}, {"i_gid", 8}, {"i_flctx", 560}}},
		{"task_struct", 9000, []field{{"files", 3000}}},
		{"files_struct", 700, []field{{"fdt", 32}}},
		{"fdtable", 56, []field{{"close_on_exec", 16}}},
		{"sock_common", 136, []field{{"skc_family", 16}}},
		{"fown_struct", 40, []field{{"pid", 8}, {"signum", 28}}},
	}
}

// types encodes structures, and the function that the iterator calls, whose
// number is 1.
func types(all []structure) ([]uint32, string) {
	names := "\x00"
	name := func(s string) uint32 {
		n := uint32(len(names))
		names += s + "\x00"
		return n
	}
	out := []uint32{name("bpf_iter_task_file"), bpf.KindFunc << 24, 9}
	for _, s := range all {
		out = append(out, name(s.name), bpf.KindStruct<<24|uint32(len(s.fields)), s.size)
		for _, f := range s.fields {
			out = append(out, name(f.name), 0, f.at*8)
		}
	}
	return out, names
}

func whole(change func([]structure)) []byte {
	all := kernel()
	if change != nil {
		change(all)
	}
	t, names := types(all)
	return bpftest.File(t, names)
}

func TestLayout(t *testing.T) {
	x, err := bpf.Parse(whole(nil))
	if err != nil {
		t.Fatal(err)
	}
	l, err := findLayout(x)
	if err != nil {
		t.Fatal(err)
	}
	if want := (layout{
		function: 1, sk: 24, passing: 8, sock: 1088, file: 184, queue: 192, length: 16, peer: [2]int{600, 608}, err: 616, shutdown: 620, group: 700, program: 24,
		inode: 40, flags: 48, owned: [5]int{64, 0, 4, 8, 560}, table: [3]int{3000, 32, 16}, family: 16, owner: [2]int{108, 124},
	}); *l != want {
		t.Errorf("%+v, want %+v", *l, want)
	}
}

// Since Linux 6.16 a struct sock has what a struct socket's flags had of options.
func TestPassingMoved(t *testing.T) {
	for name, want := range map[string]int{"sk_other": 8, "sk_scm_recv_flags": -1} {
		x, err := bpf.Parse(whole(func(all []structure) { all[3].fields = append(all[3].fields, field{name, 640}) }))
		if err != nil {
			t.Fatal(err)
		}
		l, err := findLayout(x)
		if err != nil || l.passing != want {
			t.Errorf("with %s: passing %d, want %d (%v)", name, l.passing, want, err)
		}
	}
	for flags, want := range map[uint32]int{0: 0, 0x67: 0, 1 << 3: PassCredentials, 1 << 4: PassSecurity, 1 << 7: PassPidfd, 0xff: PassCredentials | PassSecurity | PassPidfd} {
		if got := passingOf(flags); got != want {
			t.Errorf("flags %#x: %d, want %d", flags, got, want)
		}
	}
}

// What a socket is told with messages shows in memory, wherever the kernel keeps it.
func TestPassingShows(t *testing.T) {
	r, m, n := open(t), memory(t), unixSocket(t, unix.SOCK_STREAM)
	for _, on := range []int{1, 0} {
		must(t, unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_PASSCRED, on))
		h, err := m.Held(ownFiles(t, m)[int32(n)])
		must(t, err)
		if h.Passing&PassCredentials != on {
			t.Errorf("SO_PASSCRED is %d, and memory tells %d", on, h.Passing)
		}
		must(t, r.Each(self(t), func(s Socket) error {
			if s.FD == int32(n) && r.TellsPassing() && int(s.Passing) != h.Passing {
				t.Errorf("a socket is told %d, by its descriptor %d", h.Passing, s.Passing)
			}
			return nil
		}))
	}
}

func TestLayoutBad(t *testing.T) {
	alone, names := types(kernel()[1:2])
	tests := []struct {
		name string
		in   []byte
	}{
		{"empty", nil},
		{"no magic", make([]byte, 64)},
		{"cut", whole(nil)[:60]},
		{"cut type", bpftest.File(alone[:4], names)},
		{"unknown kind", bpftest.File(append([]uint32{0, 31 << 24, 0}, alone...), names)},
		{"nothing asked for", bpftest.File(alone[3:], names)},
		{"no sk", whole(func(all []structure) { all[0].fields = nil })},
		{"no mode", whole(func(all []structure) { all[6].fields = all[6].fields[:1] })},
		{"huge", whole(func(all []structure) { all[1].size = 1 << 30 })},
		{"queue outside", whole(func(all []structure) { all[3].fields[0].at = 1080 })},
		{"flags outside", whole(func(all []structure) { all[2].fields[1].at = 183 })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := bpf.Parse(tt.in)
			if err == nil {
				_, err = findLayout(x)
			}
			if !errors.Is(err, bpf.ErrBTF) && !errors.Is(err, ErrUnavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestLayoutLive(t *testing.T) {
	l, err := kernelLayout()
	testkit.KernelMemory(t, err)
	if l.sock < 512 || l.file < 100 {
		t.Errorf("%+v", *l)
	}
}

func FuzzLayout(f *testing.F) {
	f.Add(whole(nil))
	f.Add(whole(nil)[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := bpf.Parse(b)
		if err != nil {
			return
		}
		err = x.Each(func(t *bpf.Type) bool {
			x.Member(t, "a")
			return !x.Named(t, "outer")
		})
		if err != nil && !errors.Is(err, bpf.ErrBTF) {
			t.Error(err)
		}
		l, err := findLayout(x)
		if err == nil && (l.sock > maxStruct || l.file > maxStruct || l.sk > maxStruct) {
			t.Errorf("%+v", *l)
		}
		got, err := findTCP(x)
		if err != nil {
			return
		}
		for _, p := range append(got.Fixed, got.Moving...) {
			if p.At < 0 || p.Size < 0 || p.At+p.Size > got.Size4 || got.Size > maxStruct {
				t.Errorf("%+v", *got)
			}
		}
	})
}

func TestTCPLive(t *testing.T) {
	r, err := OpenTCP()
	testkit.KernelMemory(t, err)
	l := r.TCP
	if l.Picture == nil {
		t.Error("it isn't known where the state of a connection is")
	}
	if l.Size4 < 1000 || l.Size <= l.Size4 || len(l.Fixed) < 7 || len(l.Moving) < 4 {
		t.Errorf("%+v", *l)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
