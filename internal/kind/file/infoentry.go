package file

import (
	"context"
	"fmt"
	"path"
	"strconv"

	"glis.dev/glis/internal/plan"
)

// infoEntry returns the descriptor that an entry of a process's fdinfo is about, if a path
// leads to one.
func infoEntry(name string) (number int32, ok bool) {
	dir, base := path.Split(name)
	n, err := strconv.ParseUint(base, 10, 31)
	pid := strconv.FormatUint(uint64(ofProc(name)), 10)
	return int32(n), err == nil && pid != "0" && (dir == procRoot+pid+"/fdinfo/" || dir == procRoot+pid+"/task/"+pid+"/fdinfo/")
}

// entryNode is an entry of a task's fdinfo. It can be opened only while the task has a
// descriptor of that number, whichever; later it tells of the one that there is.
type entryNode struct {
	aheadNode
	number int32
}

// Prepare implements plan.Prepared.
func (n *entryNode) Prepare(_ context.Context, env *plan.Env, _ []plan.Node) error {
	if n.hold != nil {
		return nil
	}
	err := env.Holding(ofProc(n.name), n.number, func() (err error) {
		n.hold, err = n.openBy(env, n.name)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return nil
}
