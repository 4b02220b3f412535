package plan

import (
	"context"
	"slices"
	"strings"
	"testing"

	"glis.dev/glis/internal/fd"
)

type node struct {
	id    ID
	needs []ID
}

func (n node) ID() ID                                       { return n.id }
func (n node) Needs() []ID                                  { return n.needs }
func (n node) String() string                               { return "a node" }
func (n node) Create(context.Context, *Env) (*fd.FD, error) { return fd.New(-1), nil }

func planOf(t *testing.T, nodes ...node) *Plan {
	t.Helper()
	p := New(nil, nil)
	for _, n := range nodes {
		if err := p.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestNodes(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []node
		want  []ID
		err   string
	}{
		{name: "none"},
		{name: "order of adding", nodes: []node{{3, nil}, {1, nil}, {2, nil}}, want: []ID{3, 1, 2}},
		{name: "needs come before", nodes: []node{{1, []ID{3, 2}}, {2, nil}, {3, []ID{2}}}, want: []ID{2, 3, 1}},
		{name: "one need twice", nodes: []node{{1, []ID{2, 2}}, {2, nil}}, want: []ID{2, 1}},
		{name: "missing", nodes: []node{{1, nil}, {0x20, []ID{0x30}}}, err: "file 0x30 is needed by 0x20 and missing"},
		{name: "itself", nodes: []node{{7, []ID{7}}}, err: "in a circle: [0x7 0x7]"},
		{name: "circle", nodes: []node{{1, []ID{2}}, {2, []ID{3}}, {3, []ID{4}}, {4, []ID{2}}}, err: "in a circle: [0x2 0x3 0x4 0x2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := planOf(t, c.nodes...).Nodes()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var ids []ID
			for _, n := range got {
				ids = append(ids, n.ID())
			}
			if !slices.Equal(ids, c.want) {
				t.Fatalf("got %v, want %v", ids, c.want)
			}
		})
	}
}

// A chain that a broken image has must not be followed until the stack is
// used up; a long list is no chain.
func TestChain(t *testing.T) {
	p := New(nil, nil)
	for i := range ID(1 << 20) {
		if err := p.Add(node{i, []ID{i + 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Nodes(); err == nil || !strings.Contains(err.Error(), "chain of") {
		t.Fatalf("a chain of a million: %v", err)
	}
	p = New(nil, nil)
	for i := range ID(1 << 18) {
		var needs []ID
		if i > 0 {
			needs = []ID{i - 1}
		}
		if err := p.Add(node{i, needs}); err != nil {
			t.Fatal(err)
		}
	}
	if nodes, err := p.Nodes(); err != nil || len(nodes) != 1<<18 {
		t.Fatalf("each needs the one before: %d, %v", len(nodes), err)
	}
}

func TestAddTwice(t *testing.T) {
	p := planOf(t, node{1, nil})
	if err := p.Add(node{1, nil}); err == nil || !strings.Contains(err.Error(), "file 0x1 is there twice") {
		t.Fatal(err)
	}
	if p.Node(1) == nil || p.Node(2) != nil {
		t.Fatal("not the nodes that were added")
	}
}

func TestUsers(t *testing.T) {
	p := planOf(t, node{1, nil})
	want := []Use{{Task: 5, FD: 3}, {Task: 4, FD: 9, Cloexec: true}}
	for _, u := range want {
		p.Use(1, u)
	}
	if !slices.Equal(p.Users(1), want) || p.Users(2) != nil {
		t.Fatalf("got %v and %v", p.Users(1), p.Users(2))
	}
}
