package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// quickNode is one that others may be made beside. It may fail, and it counts.
type quickNode struct {
	id       plan.ID
	needs    []plan.ID
	fail     bool
	streamed bool
	made     atomic.Int32
	filled   int
	d        *fd.FD
}

func (n *quickNode) ID() plan.ID       { return n.id }
func (n *quickNode) Needs() []plan.ID  { return n.needs }
func (n *quickNode) String() string    { return "a quick one" }
func (n *quickNode) Independent() bool { return n.id != 0 }
func (n *quickNode) Streamed() bool    { return n.streamed }

func (n *quickNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	if n.made.Add(1); n.fail {
		return nil, errors.New("no luck")
	}
	no, err := unix.MemfdCreate(fmt.Sprint(n.id), unix.MFD_CLOEXEC)
	n.d = fd.New(no)
	return n.d, err
}

func (n *quickNode) Fill(context.Context, *plan.Env, *fd.FD) error {
	n.filled++
	return nil
}

// quickFiles makes a plan of many such nodes, each with one descriptor. The last is
// used twice, and the first, which two others are needed for, is needed for one.
func quickFiles(t *testing.T, count int, streamed bool) (*files, []*quickNode, []descriptor) {
	t.Helper()
	p := plan.New(nil, nil)
	p.Expect(count)
	var nodes []*quickNode
	var own []descriptor
	for i := range count {
		n := &quickNode{id: plan.ID(i), streamed: streamed}
		switch i {
		case 0:
			n.needs = []plan.ID{20, plan.ID(count - 10)}
		case count / 2:
			n.needs = []plan.ID{0}
		}
		must(t, p.Add(n))
		nodes = append(nodes, n)
	}
	for i := range count + 1 {
		id := min(i, count-1)
		p.Use(plan.ID(id), plan.Use{FD: int32(i)})
		own = append(own, descriptor{id: plan.ID(id), fd: int32(i)})
	}
	f, err := newFiles(p, &plan.Env{})
	must(t, err)
	t.Cleanup(f.close)
	return f, nodes, own
}

// Each file is made and filled once, whoever asks for it: what was begun ahead, what
// was not, one that is asked for before its turn, and those that another one's need has
// need of, as a connection of a listener with clients that wait to be accepted.
func TestAhead(t *testing.T) {
	for _, streamed := range []bool{false, true} {
		f, nodes, own := quickFiles(t, 500, streamed)
		must(t, f.ahead(t.Context(), own))
		must(t, f.settle(t.Context(), own[:7]))
		if !f.isOpen(6) {
			t.Error("a file is not there that was asked for")
		}
		for _, id := range []plan.ID{0, 450} {
			_, err := f.get(t.Context(), id)
			must(t, err)
		}
		for at := 0; at < len(own); at += 100 {
			some := own[at:min(at+100, len(own))]
			must(t, f.settle(t.Context(), some))
			for _, e := range some {
				if !f.isOpen(e.id) {
					t.Fatalf("file %d is not there", e.id)
				}
			}
			f.releaseAll(some)
		}
		f.dismiss()
		for _, n := range nodes {
			if n.made.Load() != 1 || n.filled != 1 || n.d.Int() >= 0 {
				t.Fatalf("streamed %v: file %d was made %d times, filled %d times, is open: %v", streamed, n.id, n.made.Load(), n.filled, n.d.Int() >= 0)
			}
		}
	}
}

// begunNode counts what is begun of it, and dropped.
type begunNode struct {
	quickNode
	begun, dropped int
}

func (n *begunNode) Begin() { n.begun++ }
func (n *begunNode) Drop()  { n.dropped++ }

// Files are begun with as long as there is time for it, and none if the engine may not have
// all at a time.
func TestBegin(t *testing.T) {
	for _, c := range []struct{ room, want int }{{10 + spareFiles, 4}, {9 + spareFiles, 0}} {
		p := plan.New(nil, nil)
		var nodes []*begunNode
		for i := range 10 {
			nodes = append(nodes, &begunNode{quickNode: quickNode{id: plan.ID(i)}})
			must(t, p.Add(nodes[i]))
		}
		f, err := newFiles(p, &plan.Env{})
		must(t, err)
		f.room = c.room
		asked, begun := 0, 0
		f.begin(func() bool { asked++; return asked > 4 })
		f.close()
		for _, n := range nodes {
			if begun += n.begun; n.dropped != 1 {
				t.Errorf("file %d was dropped %d times", n.id, n.dropped)
			}
		}
		if begun != c.want {
			t.Errorf("room for %d: %d were begun with, want %d", c.room, begun, c.want)
		}
	}
}

// Of files that can't be made each is told, and nothing stays open.
func TestAheadFails(t *testing.T) {
	f, nodes, own := quickFiles(t, 200, true)
	nodes[100].fail, nodes[150].fail = true, true
	must(t, f.ahead(t.Context(), own))
	err := f.settle(t.Context(), own)
	wantError(t, err, "file 0x64, a quick one: no luck")
	if !strings.Contains(err.Error(), "file 0x96, a quick one: no luck") {
		t.Errorf("the second failure is missing: %v", err)
	}
	f.close()
	for _, n := range nodes {
		if n.d != nil && n.d.Int() >= 0 {
			t.Errorf("file %d is open", n.id)
		}
	}
}

// What was begun and is not wanted any more is closed.
func TestDismiss(t *testing.T) {
	f, nodes, own := quickFiles(t, 1000, true)
	must(t, f.ahead(t.Context(), own))
	must(t, f.settle(t.Context(), own[:40]))
	f.dismiss()
	f.close()
	for _, n := range nodes {
		if n.d != nil && n.d.Int() >= 0 {
			t.Errorf("file %d is open", n.id)
		}
	}
}
