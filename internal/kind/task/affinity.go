package task

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
)

// Affinity is the set of CPUs a thread may run on. It is kept only if it is
// not all CPUs there are; criu does not keep it at all.
type Affinity struct {
	cpus func() machine // asked for once
}

// machine is what CPUs there are.
type machine struct {
	online []byte // set of them; nil if unknown: every set is special then
	room   int    // bytes of a set, as sched_getaffinity(2) wants it
}

func newAffinity() Affinity { return Affinity{cpus: sync.OnceValue(readMachine)} }

// cpuSetSize holds 8192 CPUs, the most that Linux can be built for.
const cpuSetSize = 1024

// Name implements kind.Facet.
func (Affinity) Name() string { return "CPU affinity" }

// Learn implements kind.Learner.
func (a Affinity) Learn() { a.cpus() }

// Dump implements kind.Facet.
func (a Affinity) Dump(q *kind.Question) (kind.Answer, error) {
	room := a.cpus().room
	at, _ := q.Batch.Alloc(room)
	call := q.Batch.Call("sched_getaffinity", unix.SYS_SCHED_GETAFFINITY, 0, uint64(room), uint64(at))
	return func(c *core.CoreEntry) error {
		n, err := call.Result()
		if err != nil {
			return err
		}
		set, err := q.Batch.Output(at, min(int(n), room))
		if err == nil {
			a.put(c, set)
		}
		return err
	}, nil
}

// put notes the CPUs that a thread may run on, unless those are all.
func (a Affinity) put(c *core.CoreEntry, set []byte) {
	if !bytes.Equal(trimSet(set), a.cpus().online) {
		putExtra(c, extraAffinity, trimSet(set))
	}
}

// Restore implements kind.Facet.
func (Affinity) Restore(r *kind.Redo) error {
	set, ok := r.Extra[extraAffinity]
	if !ok {
		return nil
	}
	if len(set) == 0 || len(set) > cpuSetSize {
		return fmt.Errorf("core-%d.img: a CPU set of %d bytes makes no sense", r.TID, len(set))
	}
	// The kernel reads whole words.
	words := append(bytes.Clone(set), make([]byte, (8-len(set)%8)%8)...)
	r.Batch.Call("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, 0, uint64(len(words)), uint64(r.Batch.Bytes(words)))
	return nil
}

// FreeCPUs lets a new process run on every CPU, whatever the engine itself may
// run on. Tasks made from it inherit that, and only those whose images say
// otherwise are bound again.
func FreeCPUs(pid proc.PID) error {
	var all unix.CPUSet
	for i := range all {
		all[i] = ^all[i]
	}
	if err := unix.SchedSetaffinity(int(pid), &all); err != nil {
		return fmt.Errorf("task %d: sched_setaffinity: %w", pid, err)
	}
	return nil
}

// trimSet cuts zeros off the end.
func trimSet(set []byte) []byte { return bytes.TrimRight(set, "\x00") }

// readMachine asks for both. The kernel wants room for all the CPUs it could
// have, not for those it has.
func readMachine() machine {
	m := machine{room: cpuSetSize}
	if possible, err := readCPUs("possible"); err == nil {
		m.room = (len(possible) + 7) &^ 7
	}
	if online, err := readCPUs("online"); err == nil {
		m.online = online
	}
	return m
}

func readCPUs(which string) ([]byte, error) {
	text, err := fd.ReadFile("/sys/devices/system/cpu/" + which)
	if err != nil {
		return nil, err
	}
	return parseCPUs(strings.TrimSpace(string(text)))
}

// parseCPUs reads a list such as "0-3,5".
func parseCPUs(list string) ([]byte, error) {
	set := make([]byte, cpuSetSize)
	for part := range strings.SplitSeq(list, ",") {
		from, to, ok := strings.Cut(part, "-")
		if !ok {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return nil, err
		}
		b, err := strconv.ParseUint(to, 10, 16)
		if err != nil {
			return nil, err
		}
		if b >= cpuSetSize*8 || a > b {
			return nil, fmt.Errorf("CPUs %q: no such range", part)
		}
		for i := a; i <= b; i++ {
			set[i/8] |= 1 << (i % 8)
		}
	}
	return trimSet(set), nil
}
