package restore

import (
	"testing"

	criu_core "glis.dev/glis/image/criu/criu-core"
)

// A dump is told that a restore needs --shell-job: the root's session has its leader elsewhere.
func TestPossible(t *testing.T) {
	living := func(pid, ppid, pgid, sid uint32) Member {
		return Member{Entry: process(pid, ppid, pgid, sid), IDs: &criu_core.TaskKobjIdsEntry{VmId: &pid, FilesId: &pid, FsId: &pid}}
	}
	for _, c := range []struct {
		name string
		tree []Member
		want bool
	}{
		{name: "a session of its own", tree: []Member{living(10, 0, 10, 10)}},
		{name: "a session from outside", tree: []Member{living(10, 0, 10, 9)}, want: true},
		{name: "a session and a group from outside", tree: []Member{living(10, 0, 9, 9), living(11, 10, 11, 9)}, want: true},
	} {
		if got, err := Possible(c.tree); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}
