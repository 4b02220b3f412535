package sockmem

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/testkit"
)

func memory(t testing.TB) *Memory {
	t.Helper()
	m, err := OpenMemory()
	testkit.KernelMemory(t, err)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func unixSocket(t testing.TB, typ int) int {
	t.Helper()
	n, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	return n
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func ownFiles(t testing.TB, m *Memory) map[int32]kmem.Addr {
	t.Helper()
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	must(t, err)
	defer unix.Close(self)
	files, err := m.Files(self)
	must(t, err)
	return files
}

// What waits at a listener is shown, in order, with everything in it.
func TestWaiting(t *testing.T) {
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		m := memory(t)
		l, first, second := unixSocket(t, typ), unixSocket(t, typ), unixSocket(t, typ)
		third, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		at := &unix.SockaddrUnix{Name: fmt.Sprintf("@glis-waiting-%d-%d", os.Getpid(), typ)}
		large := bytes.Repeat([]byte("large"), 20000)
		must(t, unix.Bind(l, at), unix.Listen(l, 5))
		must(t, unix.Bind(third, &unix.SockaddrUnix{Name: at.Name + "c"}))
		must(t, unix.Connect(second, at), unix.Connect(third, at), unix.Connect(first, at))
		must(t, unix.Sendmsg(first, []byte("one"), nil, nil, 0), unix.Sendmsg(first, large, unix.UnixRights(0, l), nil, 0))
		must(t, unix.Sendmsg(third, []byte("gone"), nil, nil, 0))
		unix.Close(third)
		files := ownFiles(t, m)
		all, err := m.Waiting(files[int32(l)])
		must(t, err)
		if len(all) != 3 {
			t.Fatalf("%d connections wait, want 3", len(all))
		}
		var st unix.Stat_t
		must(t, unix.Fstat(first, &st))
		if all[0].Client == 0 || all[1].Client != 0 || all[2].Client != st.Ino {
			t.Errorf("clients %d, %d, %d; the last one is %d", all[0].Client, all[1].Client, all[2].Client, st.Ino)
		}
		if string(all[1].Name) != "\x00"+at.Name[1:]+"c" {
			t.Errorf("the client that is closed had the name %q", all[1].Name)
		}
		for _, w := range all {
			if w.Who.Pid != int32(os.Getpid()) || w.Who.Uid != uint32(os.Geteuid()) {
				t.Errorf("made by %+v", w.Who)
			}
		}
		var got []byte
		var rights []kmem.Addr
		for _, b := range all[2].Buffers {
			got, rights = append(got, b.Data...), append(rights, b.Files...)
			if !b.Told || b.Who.Pid != int32(os.Getpid()) {
				t.Errorf("%d bytes of %+v", len(b.Data), b.Who)
			}
		}
		if !bytes.Equal(got, append([]byte("one"), large...)) {
			t.Errorf("%d bytes wait, want %d", len(got), len(large)+3)
		}
		if len(rights) != 2 || rights[0] != files[0] || rights[1] != files[int32(l)] {
			t.Errorf("files %#x come along, want %#x and %#x", rights, files[0], files[int32(l)])
		}
		if typ == unix.SOCK_STREAM {
			must(t, unix.Sendmsg(first, []byte("!"), nil, nil, unix.MSG_OOB))
			all, err = m.Waiting(files[int32(l)])
			must(t, err)
			if b := all[2].Buffers; !b[len(b)-1].Urgent {
				t.Errorf("urgent data isn't seen")
			}
		}
	}
}

func BenchmarkOpenMemory(b *testing.B) {
	for b.Loop() {
		m := memory(b)
		m.Close()
	}
}
