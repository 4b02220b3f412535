package guardian

import (
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

func write(t *testing.T, j *journal) {
	t.Helper()
	g := &Guard{journal: j}
	for _, err := range []error{
		g.Task(Task{7, 1 << 40}),
		g.Task(Task{1 << 21, 3}),
		g.Option(Option{PID: 7, FD: 20000, Inode: 1 << 33, SockOpt: linux.SockOpt{Level: 6, Name: 19, Value: -1}}),
		g.Kept("CRIU-x"),
		g.Arena(7, 1<<46, 4096),
		g.Name("/x/link", 3, 4),
		g.Brake(9),
		g.BrakeMasked(10, 1),
		g.Unbraked(),
		g.Brake(7),
		g.BrakeMasked(8, 1<<63|9),
		g.Cgroup("name=x", "/a"),
		g.Frozen("/x/b", true),
		g.Phase(Committed),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

var told = story{
	phase:   Committed,
	tasks:   []Task{{7, 1 << 40}, {1 << 21, 3}},
	options: []Option{{PID: 7, FD: 20000, Inode: 1 << 33, SockOpt: linux.SockOpt{Level: 6, Name: 19, Value: -1}}},
	kept:    "CRIU-x",
	braked:  []proc.PID{7, 8},
	masks:   map[proc.PID]uint64{8: 1<<63 | 9},
	names:   []name{{3, 4, "/x/link"}},
	cgroups: []made{{"name=x", "/a"}},
	frozen:  frozen{"/x/b", true},
	arenas:  map[proc.PID][]area{7: {{1 << 46, 4096}}},
}

func TestJournal(t *testing.T) {
	j, err := newJournal()
	if err != nil {
		t.Fatal(err)
	}
	defer j.file.Close()
	write(t, j)
	b, err := readJournal(j.file.Int())
	if err != nil {
		t.Fatal(err)
	}
	if got := readStory(b); !reflect.DeepEqual(got, told) {
		t.Errorf("got %+v, want %+v", got, told)
	}
	// What was not finished does not count, what came before does.
	for n := range len(b) {
		s := readStory(b[:n])
		if s.phase != Begun {
			t.Errorf("%d of %d bytes: phase %d", n, len(b), s.phase)
		}
	}
	if s := readStory(b[:len(b)-1]); len(s.tasks) != 2 || len(s.options) != 1 || s.kept != "CRIU-x" {
		t.Errorf("without the last record: %+v", s)
	}
}

// A name is taken away only from the file that got it.
func TestUnlink(t *testing.T) {
	dir := t.TempDir()
	mine, other := dir+"/mine", dir+"/other"
	for _, p := range []string{mine, other} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(mine, &st); err != nil {
		t.Fatal(err)
	}
	s := story{names: []name{{st.Dev, st.Ino, mine}, {st.Dev, st.Ino, other}, {st.Dev, st.Ino, dir + "/none"}}}
	if err := s.unlink(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("left: %v", left)
	}
}

func FuzzStory(f *testing.F) {
	f.Add([]byte{recordPhase, 1, 0, 2, recordKept, 3, 0, 'a', 'b', 'c', recordTask, 200, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := readStory(b); s.phase > Done || len(s.tasks)+len(s.options) > len(b) {
			t.Errorf("%+v", s)
		}
	})
}

// TestRemoveShms removes what the engine has made, and nothing else.
func TestRemoveShms(t *testing.T) {
	var ids [2]int
	for i := range ids {
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.SysvShmCtl(id, unix.IPC_RMID, nil) //nolint:errcheck // it may be gone
		ids[i] = id
	}
	own := int32(os.Getpid())
	body := func(id int, by int32) []byte {
		return le.AppendUint32(le.AppendUint32([]byte{recordShm, 8, 0}, uint32(id)), uint32(by))
	}
	s := readStory(append(body(ids[0], own), body(ids[1], own+1)...))
	if err := s.removeShms(); err != nil || len(s.shms) != 2 {
		t.Fatal(s.shms, err)
	}
	var ds unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(ids[0], unix.IPC_STAT, &ds); err == nil {
		t.Error("the engine's is still there")
	}
	if _, err := unix.SysvShmCtl(ids[1], unix.IPC_STAT, &ds); err != nil {
		t.Errorf("that of another process: %v", err)
	}
}
