package restore

import (
	"fmt"
	"slices"
	"testing"

	fsimg "glis.dev/glis/image/criu/fs"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/plan"
)

// births tells what was planned for each task: the session it is cloned into,
// and how: early, by a helper (H), making its group with one (G).
func births(tr *tree) []string {
	var out []string
	for _, t := range tr.tasks {
		s := fmt.Sprintf("%d into %d", t.pid, t.birth.session)
		if t.parent != nil && slices.Contains(t.parent.birth.early, t) {
			s += " early"
		}
		if t.birth.helper {
			s += " H"
		}
		if t.birth.by != nil {
			s += fmt.Sprint(" by ", t.birth.by.pid)
		}
		if t.birth.afar != nil {
			s += fmt.Sprint(" afar ", t.birth.afar.pid)
		}
		if t.birth.leads {
			s += " leads"
		}
		if t.birth.lends {
			s += " lends"
		}
		if t.birth.groupHelper {
			s += " G"
		}
		out = append(out, s)
	}
	return out
}

func TestPlanBirths(t *testing.T) {
	for _, c := range []struct {
		name     string
		tree     []p
		shellJob bool
		want     []string
	}{
		{name: "one", tree: []p{{pid: 10, pgid: 10, sid: 10}}, want: []string{"10 into 0"}},
		{
			name: "one session",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 11, pgid: 12, sid: 10}},
			want: []string{"10 into 0", "11 into 10", "12 into 10"},
		}, {
			name: "a session below",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 11}, {pid: 12, ppid: 11, pgid: 11, sid: 11}},
			want: []string{"10 into 0", "11 into 10", "12 into 11"},
		}, {
			name: "an early child",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 11}, {pid: 12, ppid: 11, pgid: 10, sid: 10}, {pid: 13, ppid: 11, pgid: 11, sid: 11}},
			want: []string{"10 into 0", "11 into 10", "12 into 10 early", "13 into 11"},
		}, {
			name: "an early child two levels up",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 11}, {pid: 12, ppid: 11, pgid: 12, sid: 12}, {pid: 13, ppid: 12, pgid: 10, sid: 10}},
			want: []string{"10 into 0", "11 into 10", "12 into 10 early", "13 into 10 early"},
		}, {
			name: "a session whose leader has ended",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 9, sid: 9}, {pid: 13, ppid: 12, pgid: 9, sid: 9}, {pid: 14, ppid: 10, pgid: 14, sid: 9}},
			want: []string{"10 into 0", "12 into 9 H", "13 into 9", "14 into 9 H"},
		}, {
			name: "two sessions whose leaders have ended",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 8, sid: 8}, {pid: 13, ppid: 10, pgid: 9, sid: 9}},
			want: []string{"10 into 0", "12 into 8 H", "13 into 9 H"},
		}, {
			name: "the group of an ended session leader, joined by a task before its sibling",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 12, sid: 9}, {pid: 14, ppid: 12, pgid: 9, sid: 9}, {pid: 13, ppid: 10, pgid: 9, sid: 9}},
			want: []string{"10 into 0", "12 into 9 H", "14 into 9", "13 into 9 H"},
		}, {
			name: "a leader with a child of an ended session",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 12, sid: 12}, {pid: 13, ppid: 12, pgid: 9, sid: 9}},
			want: []string{"10 into 0", "12 into 10", "13 into 9 H"},
		}, {
			name: "an ended session in two places, under a task that left it",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 9, sid: 9}, {pid: 12, ppid: 10, pgid: 12, sid: 12}, {pid: 13, ppid: 12, pgid: 9, sid: 9}, {pid: 14, ppid: 12, pgid: 12, sid: 12}},
			want: []string{"10 into 0", "11 into 9 H", "12 into 9 H", "13 into 9 early", "14 into 12"},
		}, {
			name: "an ended session in two places, under two tasks that left it",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 11}, {pid: 12, ppid: 11, pgid: 9, sid: 9}, {pid: 13, ppid: 10, pgid: 13, sid: 13}, {pid: 14, ppid: 13, pgid: 14, sid: 14}, {pid: 15, ppid: 14, pgid: 15, sid: 9}},
			want: []string{"10 into 0", "11 into 9 H", "12 into 9 early", "13 into 9 H", "14 into 9 early", "15 into 9 early"},
		}, {
			name: "an ended session above and below a task that left it",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 9, sid: 9}, {pid: 12, ppid: 11, pgid: 12, sid: 12}, {pid: 13, ppid: 12, pgid: 9, sid: 9}},
			want: []string{"10 into 0", "11 into 9 H", "12 into 9", "13 into 9 early"},
		}, {
			name: "a group whose leader has ended",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 11, sid: 10}, {pid: 13, ppid: 10, pgid: 11, sid: 10}},
			want: []string{"10 into 0", "12 into 10 G", "13 into 10"},
		}, {
			name: "a group whose leader is a zombie",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 13, sid: 10}, {pid: 13, ppid: 10, pgid: 13, sid: 10, zombie: true}},
			want: []string{"10 into 0", "12 into 10", "13 into 10"},
		}, {
			name: "a zombie in a group whose leader has ended",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 11, sid: 10, zombie: true}, {pid: 13, ppid: 10, pgid: 11, sid: 10}},
			want: []string{"10 into 0", "12 into 10 G", "13 into 10"},
		}, {
			name: "a zombie that leads a session",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 12, sid: 12, zombie: true}},
			want: []string{"10 into 0", "12 into 10"},
		}, {
			name: "a sibling of a session's leader, and one of a leader that it was then",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 11, zombie: true}, {pid: 12, ppid: 10, pgid: 12, sid: 11}, {pid: 13, ppid: 10, pgid: 13, sid: 13}, {pid: 14, ppid: 13, pgid: 13, sid: 13}, {pid: 15, ppid: 10, pgid: 10, sid: 13}},
			want: []string{"10 into 0", "11 into 10", "12 into 11 by 11", "13 into 10", "14 into 13", "15 into 13 by 13"},
		}, {
			name: "left by one further below, and by one that is left itself",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 11, pgid: 12, sid: 12, zombie: true}, {pid: 14, ppid: 10, pgid: 14, sid: 16}, {pid: 13, ppid: 10, pgid: 12, sid: 12}, {pid: 16, ppid: 13, pgid: 16, sid: 16}},
			want: []string{"10 into 0", "11 into 10", "12 into 10 leads", "14 into 16 afar 16", "13 into 12 afar 12", "16 into 12"},
		}, {
			name: "a sibling of a leader with a child from before",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 11}, {pid: 12, ppid: 11, pgid: 10, sid: 10}, {pid: 13, ppid: 10, pgid: 11, sid: 11}},
			want: []string{"10 into 0", "11 into 10", "12 into 10 early", "13 into 11 afar 11"},
		}, {
			name: "an ended session, whose helper is the deeper one",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 9, sid: 9}, {pid: 12, ppid: 10, pgid: 10, sid: 10}, {pid: 13, ppid: 12, pgid: 9, sid: 9}},
			want: []string{"10 into 0", "11 into 9 afar 13", "12 into 10", "13 into 9 H"},
		}, {
			name: "the group of an ended session leader, which none of its children is in",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 9}, {pid: 12, ppid: 11, pgid: 9, sid: 9}},
			want: []string{"10 into 0", "11 into 9 H", "12 into 9"},
		}, {
			name: "groups whose leaders have left them",
			tree: []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 11, sid: 10, zombie: true}, {pid: 13, ppid: 10, pgid: 12, sid: 10}},
			want: []string{"10 into 0", "11 into 10 lends", "12 into 10 lends", "13 into 10"},
		}, {
			name: "a job of a shell outside", shellJob: true,
			tree: []p{{pid: 10, pgid: 10, sid: 5}, {pid: 11, ppid: 10, pgid: 10, sid: 5}, {pid: 12, ppid: 10, pgid: 12, sid: 12}},
			want: []string{"10 into 0", "11 into 0", "12 into 0"},
		}, {
			name: "a job in a group outside", shellJob: true,
			tree: []p{{pid: 10, pgid: 7, sid: 5}, {pid: 11, ppid: 10, pgid: 7, sid: 5}, {pid: 12, ppid: 10, pgid: 8, sid: 5}},
			want: []string{"10 into 0", "11 into 0", "12 into 0 G"},
		}, {
			name: "a job with a leader whose child is of the outside", shellJob: true,
			tree: []p{{pid: 10, pgid: 10, sid: 5}, {pid: 11, ppid: 10, pgid: 11, sid: 11}, {pid: 12, ppid: 11, pgid: 10, sid: 5}},
			want: []string{"10 into 0", "11 into 0", "12 into 0 early"},
		}, {
			name: "a job from outside of its PID namespace", shellJob: true,
			tree: []p{{pid: 10, pgid: 0, sid: 0}, {pid: 11, ppid: 10, pgid: 0, sid: 0}},
			want: []string{"10 into 0", "11 into 0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := treeOf(t, c.tree...)
			must(t, tr.planBirths(withShellJob(c.shellJob)))
			if got := births(tr); !slices.Equal(got, c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			for _, k := range tr.tasks {
				n := len(k.birth.early) + len(k.birth.late)
				for _, c := range tr.afar {
					if c.parent == k {
						n++
					}
				}
				if n != len(k.children) {
					t.Errorf("%v: %d of %d children are cloned", k, n, len(k.children))
				}
			}
		})
	}
}

func TestImpossibleBirths(t *testing.T) {
	for _, c := range []struct {
		name     string
		tree     []p
		shellJob bool
		want     string
	}{
		{"a session outside", []p{{pid: 10, pgid: 10, sid: 5}}, false, "session 5 has its leader outside of the tree; with --shell-job"},
		{"root in a session of its child", []p{{pid: 10, pgid: 10, sid: 11}, {pid: 11, ppid: 10, pgid: 11, sid: 11}}, false, "session 11 is one that a task below it leads"},
		{"root in a session of its child, as a job", []p{{pid: 10, pgid: 10, sid: 11}, {pid: 11, ppid: 10, pgid: 11, sid: 11}}, true, "session 11 is one that a task below it leads"},
		{"groups of each other", []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 12, sid: 10}, {pid: 12, ppid: 10, pgid: 11, sid: 10}}, false, "task 12 (): it is in the group of another task, which is in its"},
		{"a group of another session", []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 10, pgid: 12, sid: 12}, {pid: 13, ppid: 12, pgid: 11, sid: 12}}, false, "task 13 (): its group is that of task 11 (), in another session"},
		{"back in a session left long ago", []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 11}, {pid: 12, ppid: 11, pgid: 11, sid: 11}, {pid: 13, ppid: 12, pgid: 10, sid: 10}}, false, "task 13 (): it is in session 10"},
		{
			"children in two earlier sessions",
			[]p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 11}, {pid: 12, ppid: 11, pgid: 12, sid: 12}, {pid: 13, ppid: 12, pgid: 10, sid: 10}, {pid: 14, ppid: 12, pgid: 11, sid: 11}},
			false, "task 12 (): its children are in more sessions (10, 11)",
		},
		{
			"left by one that shares",
			[]p{{pid: 10, pgid: 10, sid: 10, files: 5}, {pid: 11, ppid: 10, pgid: 10, sid: 10}, {pid: 12, ppid: 11, pgid: 12, sid: 12}, {pid: 13, ppid: 10, pgid: 12, sid: 12, files: 5}},
			false, "task 13 (): it is in session 12, which its parent task 10 (), with which it shares descriptors",
		},
		{"a leader in another group", []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 10, sid: 11}}, false, "task 11 (): it leads its session, but is in group 10"},
		{"root leads a session, its group is outside", []p{{pid: 10, pgid: 5, sid: 10}}, false, "task 10 (): it leads its session, but is in group 5"},
		{"a session outside of the PID namespace", []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 11, sid: 0}}, true, "task 11 (): its session 0 or group 11 has its leader outside of its PID namespace"},
		{"a group outside of the PID namespace", []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 0, sid: 10}}, false, "task 11 (): its session 10 or group 0"},
		{"a child of a zombie", []p{{pid: 10, pgid: 10, sid: 10}, {pid: 11, ppid: 10, pgid: 10, sid: 10, zombie: true}, {pid: 12, ppid: 11, pgid: 10, sid: 10}}, false, "task 11 (): it has ended, and can't be the parent of task 12 ()"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantError(t, treeOf(t, c.tree...).planBirths(withShellJob(c.shellJob)), c.want)
		})
	}
}

func TestCheckSharing(t *testing.T) {
	for _, c := range []struct {
		name string
		tree []p
		want string
	}{
		{name: "nothing", tree: []p{{pid: 10}, {pid: 11, ppid: 10}}},
		{name: "a child shares", tree: []p{{pid: 10, files: 5, fs: 6}, {pid: 11, ppid: 10, files: 5}, {pid: 12, ppid: 10, files: 5, fs: 6}}},
		{name: "a chain shares", tree: []p{{pid: 10, files: 5, fs: 6}, {pid: 11, ppid: 10, files: 5}, {pid: 12, ppid: 11, files: 5}}},
		{name: "memory", tree: []p{{pid: 10, vm: 3}, {pid: 11, ppid: 10, vm: 3}}, want: "task 11 (): shares its memory with task 10 ()"},
		{name: "siblings", tree: []p{{pid: 10}, {pid: 11, ppid: 10, files: 5}, {pid: 12, ppid: 10, files: 5}}, want: "task 12 (): shares its descriptors with task 11 (), which is not its parent"},
		{name: "directory of siblings", tree: []p{{pid: 10}, {pid: 11, ppid: 10, fs: 5}, {pid: 12, ppid: 10, fs: 5}}, want: "shares its working directory with"},
		{name: "grandchild", tree: []p{{pid: 10, files: 5}, {pid: 11, ppid: 10}, {pid: 12, ppid: 11, files: 5}}, want: "task 12 (): shares its descriptors with task 10 ()"},
		{name: "zombies have nothing", tree: []p{{pid: 10, vm: 3}, {pid: 11, ppid: 10, vm: 3, zombie: true}, {pid: 12, ppid: 10, vm: 3, zombie: true}}},
	} {
		t.Run(c.name, func(t *testing.T) { wantError(t, treeOf(t, c.tree...).checkSharing(), c.want) })
	}
}

// Large trees: each step must take time in proportion to the tasks.
func TestLargeTrees(t *testing.T) {
	const deep, wide = 20_000, 60_000
	chain := []p{{pid: 1, pgid: 1, sid: 1, files: 5, fs: 6}}
	leaders := []p{{pid: 1, pgid: 1, sid: 1}}
	for pid := uint32(2); pid <= deep; pid++ {
		chain = append(chain, p{pid: pid, ppid: pid - 1, pgid: 1, sid: 1, files: 5, fs: 6})
		leaders = append(leaders, p{pid: pid, ppid: pid - 1, pgid: pid, sid: pid})
	}
	star := []p{{pid: 1, pgid: 1, sid: 1, files: 5, fs: 6}}
	orphans := []p{{pid: 1, pgid: 1, sid: 1}}
	groups := []p{{pid: 1, pgid: 1, sid: 1}}
	for i := range uint32(wide) {
		star = append(star, p{pid: i + 2, ppid: 1, pgid: 1, sid: 1, files: 5, fs: 6})
		orphans = append(orphans, p{pid: 2*i + 3, ppid: 1, pgid: 2*i + 2, sid: 2*i + 2})
		groups = append(groups, p{pid: 2*i + 3, ppid: 1, pgid: 2*i + 2, sid: 1})
	}
	for name, all := range map[string][]p{"chain": chain, "chain of leaders": leaders, "star": star, "ended sessions": orphans, "ended groups": groups} {
		t.Run(name, func(t *testing.T) {
			tr := treeOf(t, all...)
			must(t, tr.planBirths(withShellJob(false)))
			must(t, tr.checkSharing())
			for _, k := range tr.tasks {
				_, _ = k.lendsFiles(), shared(k)
			}
			planLarge(t, tr)
		})
	}
}

// planLarge gives every task the same open file, and plans that.
func planLarge(t *testing.T, tr *tree) {
	t.Helper()
	one := proto.Uint32(1)
	fds := []descriptor{{id: 1, fd: 1}}
	place, space := &fsimg.FsEntry{CwdId: one, RootId: one}, &mem.Space{Entry: &mm.MmEntry{ExeFileId: one}}
	for _, k := range tr.tasks {
		k.fds, k.fs, k.space = fds, place, space
	}
	pl := plan.New(nil, nil)
	must(t, pl.Add(&fakeNode{id: 1, w: &world{}}))
	planUses(pl, tr)
	must(t, checkUses(pl, tr))
	f, err := newFiles(pl, &plan.Env{})
	must(t, err)
	want := 0
	for _, k := range tr.tasks {
		if !k.sharesFiles() {
			want++
		}
	}
	if f.all.At(1).left != want {
		t.Errorf("%d uses, want %d", f.all.At(1).left, want)
	}
	if n, err := tr.transport(1024); err != nil || n != 3 {
		t.Errorf("transport: %d, %v", n, err)
	}
}
