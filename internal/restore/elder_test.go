package restore

import "testing"

// Who is cloned by a sibling has nothing but memory from whoever clones it, and its session.
func TestJoinElder(t *testing.T) {
	for _, c := range []struct {
		name       string
		elder, own p
		with       func(e, own *task)
		want       bool
	}{
		{name: "alike", want: true},
		{name: "a group of its own", own: p{pgid: 12}, want: true},
		{name: "a session of its own", own: p{pgid: 12, sid: 12}, want: true},
		{name: "the elder leads a group", elder: p{pgid: 11}, want: true},
		{name: "both lead a session", elder: p{pgid: 11, sid: 11}, own: p{pgid: 12, sid: 12}, want: true},
		{name: "the elder has ended", elder: p{zombie: true}},
		{name: "no sibling", elder: p{ppid: 12}},
		{name: "descriptors of the parent", own: p{files: 5}},
		{name: "directories of the parent", own: p{fs: 6}},
		{name: "who clones others", with: func(e, own *task) { own.birth.clones = []*task{e} }},
		{name: "made by a helper", with: func(e, own *task) { own.birth.helper = true }},
		{name: "made from afar", with: func(e, own *task) { e.birth.afar = own }},
		{name: "in another session", with: func(e, own *task) { e.birth.session = 1 }},
	} {
		fill := func(x p, pid uint32) p {
			if x.pid = pid; x.ppid == 0 {
				x.ppid = 10
			}
			if x.pgid == 0 {
				x.pgid = 10
			}
			if x.sid == 0 {
				x.sid = 10
			}
			return x
		}
		all := []p{{pid: 10, pgid: 10, sid: 10, files: 5, fs: 6}, fill(c.elder, 11), fill(c.own, 12)}
		if c.elder.ppid != 0 {
			all[1], all[2] = all[2], all[1]
		}
		tr := treeOf(t, all...)
		must(t, tr.planBirths(withShellJob(false)))
		e, own := tr.byPID[11], tr.byPID[12]
		if c.with != nil {
			c.with(e, own)
		}
		if e.zombie {
			e = nil // see elderOf
		}
		if got := own.joinElder(e, own.parent.birth.late); got != c.want || got != (own.birth.elder != nil) {
			t.Errorf("%s: %v", c.name, got)
		}
		if own.joinElder(own, own.parent.birth.late) || own.joinElder(nil, own.parent.birth.late) {
			t.Errorf("%s: cloned by itself, or nobody", c.name)
		}
	}
}
