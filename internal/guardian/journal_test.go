package guardian

import (
	"reflect"
	"testing"

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
		g.Brake(9),
		g.Unbraked(),
		g.Brake(7),
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
	braked:  []proc.PID{7},
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

func FuzzStory(f *testing.F) {
	f.Add([]byte{recordPhase, 1, 2, recordKept, 3, 'a', 'b', 'c', recordTask, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := readStory(b); s.phase > Done || len(s.tasks)+len(s.options) > len(b) {
			t.Errorf("%+v", s)
		}
	})
}
