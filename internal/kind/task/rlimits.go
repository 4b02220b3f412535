package task

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/rlimit"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// Rlimits are the resource limits of a process.
type Rlimits struct{}

// Name implements kind.Facet.
func (Rlimits) Name() string { return "resource limits" }

const (
	rlimits      = 16 // RLIM_NLIMITS
	rlimitSize   = 16
	rlimInfinity = ^uint64(0)
)

// rlimitName names a limit for messages.
func rlimitName(i int) string {
	names := [rlimits]string{"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"}
	return "RLIMIT_" + names[i]
}

// Dump implements kind.Facet.
func (Rlimits) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(rlimits * rlimitSize)
	for i := range uint64(rlimits) {
		q.Batch.Call("prlimit64", unix.SYS_PRLIMIT64, 0, i, 0, uint64(at)+i*rlimitSize)
	}
	return func(c *core.CoreEntry) error {
		b, err := q.Batch.Output(at, rlimits*rlimitSize)
		if err != nil {
			return err
		}
		c.Tc.Rlimits = &core.TaskRlimitsEntry{}
		for i := range rlimits {
			cur, hard := binary.LittleEndian.Uint64(b[i*rlimitSize:]), binary.LittleEndian.Uint64(b[i*rlimitSize+8:])
			c.Tc.Rlimits.Rlimits = append(c.Tc.Rlimits.Rlimits, &rlimit.RlimitEntry{Cur: &cur, Max: &hard})
		}
		return nil
	}, nil
}

// Check implements kind.Checker: without CAP_SYS_RESOURCE no hard limit can be
// raised above the engine's own, which every restored task begins with.
func (Rlimits) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	all := c.GetTc().GetRlimits().GetRlimits()
	if len(all) > rlimits {
		return fmt.Errorf("core image: %d resource limits, this kernel knows %d", len(all), rlimits)
	}
	for i, l := range all {
		if err := checkLimit(env, i, l.GetMax()); err != nil {
			return err
		}
	}
	return nil
}

func checkLimit(env *plan.CheckEnv, i int, hard uint64) error {
	if i == unix.RLIMIT_NOFILE {
		if most, ok := nrOpen(); ok && hard > most {
			return fmt.Errorf("%s of %d: this system allows %d; raise it with sysctl fs.nr_open", rlimitName(i), hard, most)
		}
	}
	if env.Capable(unix.CAP_SYS_RESOURCE) {
		return nil
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(i, &own); err != nil {
		return fmt.Errorf("%s: %w", rlimitName(i), err)
	}
	if hard > own.Max {
		return fmt.Errorf("hard limit %s of %s cannot come back: Glis has %s itself and lacks CAP_SYS_RESOURCE; raise its limit (ulimit -H) or give it the capability", rlimitName(i), limitText(hard), limitText(own.Max))
	}
	return nil
}

func limitText(v uint64) string {
	if v == rlimInfinity {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

// nrOpen is the system's limit of RLIMIT_NOFILE.
func nrOpen() (uint64, bool) {
	b, err := fd.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// Restore implements kind.Facet.
func (Rlimits) Restore(r *kind.Redo) error {
	for i, l := range r.Leader.GetTc().GetRlimits().GetRlimits() {
		cur, hard := min(l.GetCur(), l.GetMax()), l.GetMax()
		r.Batch.Call("prlimit64 "+rlimitName(i), unix.SYS_PRLIMIT64, 0, uint64(i), uint64(r.Batch.U64(cur, hard)), 0)
	}
	return nil
}
