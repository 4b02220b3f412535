package task

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// Autogroup is how nice a session is to others, where the kernel schedules
// sessions as groups, see sched(7). Its leader has it in the image. (The
// session of a tree that was started from a shell is not the tree's.)
type Autogroup struct{}

const autogroupFile = "autogroup"

// Name implements kind.Facet.
func (Autogroup) Name() string { return "nice value of the autogroup" }

// Dump implements kind.Facet.
func (Autogroup) Dump(q *kind.Question) (kind.Answer, error) {
	if int32(q.Task.PID) != int32(q.Task.Stat.Session) {
		return nil, nil
	}
	b, err := q.Task.Dir.ReadFile(autogroupFile)
	if errors.Is(err, unix.ENOENT) || err == nil && len(b) == 0 {
		return nil, nil // CONFIG_SCHED_AUTOGROUP
	}
	if err != nil {
		return nil, err
	}
	nice, err := autogroupNice(string(b))
	if err != nil || nice == 0 {
		return nil, err
	}
	return func(c *core.CoreEntry) error {
		putExtra(c, extraAutogroup, binary.LittleEndian.AppendUint32(nil, uint32(int32(nice))))
		return nil
	}, nil
}

// autogroupNice reads "/autogroup-25 nice 3".
func autogroupNice(text string) (int, error) {
	_, value, ok := strings.Cut(text, " nice ")
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if !ok || err != nil {
		return 0, fmt.Errorf("%s: %q is not understood", autogroupFile, text)
	}
	return n, nil
}

// Check implements kind.Checker.
func (Autogroup) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	x, err := ReadExtra(c)
	if err != nil {
		return err
	}
	nice, err := niceOf(x)
	if err == nil && nice < 0 && !env.Capable(unix.CAP_SYS_NICE) {
		err = fmt.Errorf("its session is nice %d: Glis needs CAP_SYS_NICE to restore that", nice)
	}
	return err
}

// niceOf returns the value in an image, 0 if there is none.
func niceOf(x kind.Extra) (int, error) {
	b, err := sized(x, extraAutogroup, 4)
	if b == nil || err != nil {
		return 0, err
	}
	nice := int(int32(binary.LittleEndian.Uint32(b)))
	if nice < -20 || nice > 19 {
		return 0, fmt.Errorf("core image: a session that is nice %d makes no sense", nice)
	}
	return nice, nil
}

// Restore implements kind.Facet. A kernel without such groups has no file, and
// nothing to be nice with.
func (Autogroup) Restore(r *kind.Redo) error {
	nice, err := niceOf(r.Extra)
	if err != nil || nice == 0 {
		return err
	}
	path := fmt.Sprintf("/proc/%d/%s", r.Host, autogroupFile)
	if b, err := fd.ReadFile(path); err != nil || len(b) == 0 {
		return nil
	}
	return writeFile(path, strconv.Itoa(nice))
}
