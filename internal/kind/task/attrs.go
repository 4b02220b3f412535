package task

import (
	"encoding/binary"

	core "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/remote"
)

// Attributes are numbers of a thread that one call reads and one call sets,
// and that criu doesn't keep. Only those that are not what a thread begins
// with are in the image.
type Attributes struct{}

// attribute is one of them.
type attribute struct {
	name   string // of the entry
	call   string
	nr     uintptr
	get    []uint64
	set    []uint64 // the value comes after
	usual  uint64
	usual2 uint64 // what it is in some other state that restores it by itself
}

// attributes returns the list; a function, since it must not change.
func attributes() [3]attribute {
	const (
		ioprioGet, ioprioSet = unix.SYS_IOPRIO_GET, unix.SYS_IOPRIO_SET
		whoProcess           = 1      // IOPRIO_WHO_PROCESS
		mceKill, mceKillGet  = 33, 34 // PR_MCE_KILL, PR_MCE_KILL_GET
		mceSet, mceDefault   = 1, 2   // PR_MCE_KILL_SET, PR_MCE_KILL_DEFAULT
		slack                = 50_000 // nanoseconds, INIT_TASK
	)
	return [3]attribute{
		// 0 is what every real-time thread has.
		{"timer-slack", "prctl PR_SET_TIMERSLACK", unix.SYS_PRCTL, []uint64{unix.PR_GET_TIMERSLACK}, []uint64{unix.PR_SET_TIMERSLACK}, slack, 0},
		{"mce-kill", "prctl PR_MCE_KILL", unix.SYS_PRCTL, []uint64{mceKillGet}, []uint64{mceKill, mceSet}, mceDefault, mceDefault},
		{"io-priority", "ioprio_set", ioprioSet, []uint64{whoProcess, 0}, []uint64{whoProcess, 0}, 0, 0},
	}
}

// getNr returns the system call that reads it.
func (a *attribute) getNr() uintptr {
	if a.nr == unix.SYS_IOPRIO_SET {
		return unix.SYS_IOPRIO_GET
	}
	return a.nr
}

func attributeNamed(name string) bool {
	for _, a := range attributes() {
		if a.name == name {
			return true
		}
	}
	return false
}

// Name implements kind.Facet.
func (Attributes) Name() string { return "attributes" }

// Dump implements kind.Facet.
func (Attributes) Dump(q *kind.Question) (kind.Answer, error) {
	all := attributes()
	var calls [len(all)]remote.Call
	for i, a := range all {
		calls[i] = q.Batch.Call(a.call, a.getNr(), a.get...)
	}
	return func(c *core.CoreEntry) error {
		for i, a := range all {
			v, err := calls[i].Result()
			if err != nil {
				return err
			}
			if uint64(v) == a.usual || uint64(v) == a.usual2 {
				continue
			}
			putExtra(c, a.name, binary.LittleEndian.AppendUint64(nil, uint64(v)))
		}
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (Attributes) Restore(r *kind.Redo) error {
	for _, a := range attributes() {
		value := a.usual
		b, err := sized(r.Extra, a.name, 8)
		if err != nil {
			return err
		}
		if b != nil {
			value = binary.LittleEndian.Uint64(b)
		} else if a.name != "timer-slack" {
			continue
		}
		r.Batch.Call(a.call, a.nr, append(append([]uint64(nil), a.set...), value)...)
	}
	return nil
}
