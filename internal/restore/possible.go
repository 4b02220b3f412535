package restore

import (
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/options"
)

// Member is a task of a tree as its images are about to have it.
type Member struct {
	Entry *pstree.PstreeEntry
	IDs   *criu_core.TaskKobjIdsEntry // nil for one that has ended
	Comm  string
}

// Possible tells why tasks could not be cloned again as they are: their
// sessions, groups, and what they share. A dump asks before it ends them. With
// --shell-job a restore can do the most; shellJob tells whether it needs that.
func Possible(members []Member) (shellJob bool, err error) {
	tr := &tree{byPID: map[uint32]*task{}}
	for _, m := range members {
		if err := tr.add(m.Entry); err != nil {
			return false, err
		}
		t := tr.tasks[len(tr.tasks)-1]
		t.zombie, t.ids = m.IDs == nil, m.IDs
		t.comm = m.Comm
	}
	o := options.NewRestore()
	o.ShellJob = true
	shellJob = tr.root != nil && tr.byPID[tr.root.sid] == nil
	if err := tr.planBirths(o); err != nil {
		return false, err
	}
	return shellJob, tr.checkSharing()
}
