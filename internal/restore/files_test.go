package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// world is where the files of a test are made.
type world struct {
	made, filled, late, dropped []plan.ID
	fail                        error
}

type fakeNode struct {
	id    plan.ID
	needs []plan.ID
	w     *world
}

func (n *fakeNode) ID() plan.ID      { return n.id }
func (n *fakeNode) Needs() []plan.ID { return n.needs }
func (n *fakeNode) String() string   { return "a fake" }
func (n *fakeNode) Drop()            { n.w.dropped = append(n.w.dropped, n.id) }

func (n *fakeNode) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	for _, need := range n.needs {
		if _, err := env.File(need); err != nil {
			return nil, err
		}
	}
	if n.w.fail != nil {
		return nil, n.w.fail
	}
	n.w.made = append(n.w.made, n.id)
	no, err := unix.MemfdCreate(fmt.Sprint(n.id), unix.MFD_CLOEXEC)
	return fd.New(no), err
}

func (n *fakeNode) Fill(_ context.Context, env *plan.Env, own *fd.FD) error {
	n.w.filled = append(n.w.filled, n.id)
	if d, err := env.File(n.id); err != nil || d != own {
		return errors.New("it is not open while it is filled")
	}
	return nil
}

func (n *fakeNode) Late(context.Context, *plan.Env) error {
	n.w.late = append(n.w.late, n.id)
	return n.w.fail
}

// filesOf makes the files of a plan: for each its needs, and how many
// descriptors refer to it.
func filesOf(t *testing.T, needs map[plan.ID][]plan.ID, users map[plan.ID]int) (*files, *world) {
	t.Helper()
	w := &world{}
	p := plan.New(nil, nil)
	for id := range plan.ID(len(needs) + 1) {
		if n, ok := needs[id]; ok {
			must(t, p.Add(&fakeNode{id, n, w}))
		}
	}
	for id, n := range users {
		for i := range n {
			p.Use(id, plan.Use{FD: int32(i)})
		}
	}
	f, err := newFiles(p, &plan.Env{})
	must(t, err)
	t.Cleanup(f.close)
	return f, w
}

func (f *files) isOpen(id plan.ID) bool { return f.opened(id) != nil }

// stay counts the files that are open.
func (f *files) stay() (n int) {
	for _, node := range f.nodes {
		if f.isOpen(node.ID()) {
			n++
		}
	}
	return n
}

func TestReleaseAfterLastUse(t *testing.T) {
	f, w := filesOf(t, map[plan.ID][]plan.ID{1: nil, 2: {1}, 3: {1, 1}}, map[plan.ID]int{1: 1, 2: 2, 3: 1})
	get := func(id plan.ID) {
		t.Helper()
		d, err := f.get(t.Context(), id)
		must(t, err)
		if again, err := f.get(t.Context(), id); again != d || err != nil {
			t.Fatalf("a second get of %d is another file", id)
		}
	}
	get(2)
	if !slices.Equal(w.made, []plan.ID{1, 2}) || !slices.Equal(w.filled, w.made) {
		t.Fatalf("made %v, filled %v", w.made, w.filled)
	}
	f.release(2)
	if !f.isOpen(2) || !f.isOpen(1) {
		t.Fatal("closed before its last use")
	}
	d := f.opened(2)
	f.release(2)
	if f.isOpen(2) || d.Int() != -1 {
		t.Fatal("open after its last use")
	}
	get(1)
	f.release(1)
	if !f.isOpen(1) {
		t.Fatal("closed though another file needs it")
	}
	get(3)
	if f.isOpen(1) {
		t.Fatal("open though nothing needs it any more")
	}
	if !slices.Equal(w.made, []plan.ID{1, 2, 3}) {
		t.Fatalf("made %v, each must be made once", w.made)
	}
	f.release(3)
	if f.stay() != 0 {
		t.Fatalf("%d are left open", f.stay())
	}
}

// A file that something uses without being counted (a directory) may be made
// again after its last counted use, with what it needs.
func TestMadeAgain(t *testing.T) {
	f, w := filesOf(t, map[plan.ID][]plan.ID{1: nil, 2: {1}}, map[plan.ID]int{2: 1})
	for range 3 {
		if _, err := f.get(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		f.release(2)
	}
	if !slices.Equal(w.made[:2], []plan.ID{1, 2}) {
		t.Errorf("made %v", w.made)
	}
}

func TestFilesErrors(t *testing.T) {
	f, w := filesOf(t, map[plan.ID][]plan.ID{1: nil, 2: {1}}, nil)
	_, err := f.get(t.Context(), 9)
	wantError(t, err, "files.img: file 0x9 is missing")
	_, err = f.env.File(1)
	wantError(t, err, "file 0x1: not created yet")
	w.fail = errors.New("no luck")
	_, err = f.get(t.Context(), 2)
	wantError(t, err, "file 0x1, a fake: no luck")
	if !errors.Is(err, w.fail) {
		t.Error("the error is not the node's")
	}
	wantError(t, f.late(t.Context()), "file 0x1: no luck")
}

type numberedNode struct{ fakeNode }

func (n *numberedNode) String() string { return fmt.Sprintf("file %#x: /a/path", n.id) }

// Most nodes say their number themselves: it isn't said twice.
func TestFailure(t *testing.T) {
	for want, n := range map[string]plan.Node{
		"file 0x1: /a/path: no luck": &numberedNode{fakeNode{id: 1}},
		"file 0x1, a fake: no luck":  &fakeNode{id: 1},
	} {
		if got := failure(n, errors.New("no luck")).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFilesClose(t *testing.T) {
	f, w := filesOf(t, map[plan.ID][]plan.ID{1: nil, 2: {1}}, map[plan.ID]int{1: 5, 2: 5})
	a, err := f.get(t.Context(), 1)
	must(t, err)
	b, err := f.get(t.Context(), 2)
	must(t, err)
	must(t, f.late(t.Context()))
	f.close()
	if a.Int() != -1 || b.Int() != -1 || f.stay() != 0 {
		t.Error("some are open after close")
	}
	if want := []plan.ID{1, 2}; !slices.Equal(w.dropped, want) || !slices.Equal(w.late, want) {
		t.Errorf("dropped %v, late %v", w.dropped, w.late)
	}
}

func TestTransport(t *testing.T) {
	tr, err := newTransport(17)
	must(t, err)
	a, b := tr.ours, tr.theirs
	if tr.number != 17 || a.Int() < 0 || b.Int() < 0 {
		t.Fatal("not a pair of sockets")
	}
	tr.close()
	if a.Int() != -1 || b.Int() != -1 {
		t.Fatal("open after close")
	}
}
