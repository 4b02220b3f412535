package task

import (
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

// LoginUID is the user a process is accounted to by the audit system, see
// proc_pid_loginuid(5). A process begins with that of who clones it, and only it
// itself may change it.
type LoginUID struct{}

const (
	loginFile  = "loginuid"
	noLoginUID = ^uint32(0)
)

// Name implements kind.Facet.
func (LoginUID) Name() string { return "login uid" }

// Dump implements kind.Facet.
func (LoginUID) Dump(q *kind.Question) (kind.Answer, error) {
	v, err := readNumber(q, loginFile, 10)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // no audit system
	}
	if err != nil {
		return nil, err
	}
	return func(c *core.CoreEntry) error {
		uid := uint32(v)
		c.Tc.Loginuid = &uid
		return nil
	}, nil
}

// ownLogin returns the engine's own, nil without an audit system.
func ownLogin() (*uint32, error) {
	b, err := fd.ReadFile("/proc/self/" + loginFile)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	own := uint32(v)
	return &own, err
}

// Check implements kind.Checker: one that is set is changed only with
// CAP_AUDIT_CONTROL.
func (LoginUID) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	want := c.GetTc().GetLoginuid()
	if c.GetTc().Loginuid == nil || env.Capable(unix.CAP_AUDIT_CONTROL) {
		return nil
	}
	own, err := ownLogin()
	if own == nil || err != nil || *own == want || *own == noLoginUID {
		return err
	}
	return fmt.Errorf("audit login uid %d cannot come back: Glis has %d itself and lacks CAP_AUDIT_CONTROL; give it that capability, or restore from the login that it was dumped in", int32(want), int32(*own))
}

// Begin implements kind.Newborn.
func (LoginUID) Begin(r *kind.Redo, parent *core.CoreEntry, free int32) error {
	want := r.Leader.GetTc().Loginuid
	if want == nil {
		return nil
	}
	have, err := ownLogin()
	if have == nil || err != nil {
		return err // nobody asks for it here
	}
	if v := parent.GetTc().GetLoginuid(); parent.GetTc() != nil && parent.GetTc().Loginuid != nil {
		have = &v
	}
	if *have == *want {
		return nil
	}
	text := strconv.FormatUint(uint64(*want), 10)
	r.Batch.Call("open /proc/self/loginuid", unix.SYS_OPENAT, 0, uint64(r.Batch.String("/proc/self/"+loginFile)), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	r.Batch.Call("write "+text+" to /proc/self/loginuid", unix.SYS_WRITE, uint64(free), uint64(r.Batch.String(text)), uint64(len(text)))
	r.Batch.Call("close", unix.SYS_CLOSE, uint64(free))
	return nil
}

// Restore implements kind.Facet: all is done by Begin.
func (LoginUID) Restore(*kind.Redo) error { return nil }
