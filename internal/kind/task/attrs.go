package task

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/remote"
)

// Attributes are numbers of a thread that one call reads and one call sets,
// and that criu doesn't keep. Only those that are not what a thread begins
// with are in the image.
type Attributes struct{}

// attribute is one of them.
type attribute struct {
	name     string // in the image
	call     string // that sets it, for messages
	get      call
	set      call     // the value is the argument after these
	usual    []uint64 // not worth a word
	settable uint64   // bits without which the value can't be set
	hide     uint64   // bits that are only for reading
	always   bool     // set even if nothing is in the image, to usual[0]
	absent   bool     // some kernels don't have it
	kept     uint64   // bits that can't be taken off, nor off a child,
	lost     uint64   // unless one of these is there
}

type call struct {
	nr   uintptr
	args []uint64
}

func prctl(args ...uint64) call { return call{unix.SYS_PRCTL, args} }

func keyctl(args ...uint64) call { return call{unix.SYS_KEYCTL, args} }

// From include/uapi/linux/prctl.h and ioprio.h.
const (
	prMCEKill, prMCEKillGet            = 33, 34
	prMCEKillSet, prMCEKillDefault     = 1, 2
	prGetSpeculation, prSetSpeculation = 52, 53
	prSetMemoryMerge, prGetMemoryMerge = 67, 68
	prTimerRestoreIDs                  = 77 // PR_TIMER_CREATE_RESTORE_IDS, Linux 6.15
	prTimerRestoreIDsGet               = 2
	specControl, specEnable            = 1, 2
	specForceDisable                   = 8
	ioprioWhoProcess                   = 1
	archGetCPUID, archSetCPUID         = 0x1011, 0x1012 // asm/prctl.h
	usualTimerSlack                    = 50_000         // nanoseconds, init/init_task.c
)

// attributes returns the list; a function, since it must not change.
func attributes() []attribute {
	list := []attribute{
		// 0 is what every real-time thread has.
		{name: "timer-slack", call: "prctl PR_SET_TIMERSLACK", get: prctl(unix.PR_GET_TIMERSLACK), set: prctl(unix.PR_SET_TIMERSLACK), usual: []uint64{usualTimerSlack, 0}, always: true},
		{name: "mce-kill", call: "prctl PR_MCE_KILL", get: prctl(prMCEKillGet), set: prctl(prMCEKill, prMCEKillSet), usual: []uint64{prMCEKillDefault}},
		// Of the process, but a thread may say it for all. Linux 6.4.
		{name: "memory-merge", call: "prctl PR_SET_MEMORY_MERGE", get: prctl(prGetMemoryMerge, 0, 0, 0, 0), set: prctl(prSetMemoryMerge), usual: []uint64{0}, absent: true},
		// Of the process, too. It can't be taken back, and its children begin with
		// it, so nothing may be mapped afterwards. Linux 6.3.
		{name: "mdwe", call: "prctl PR_SET_MDWE", get: prctl(unix.PR_GET_MDWE, 0, 0, 0, 0), set: prctl(unix.PR_SET_MDWE), usual: []uint64{0}, absent: true, kept: unix.PR_MDWE_REFUSE_EXEC_GAIN, lost: unix.PR_MDWE_NO_INHERIT},
		// 0: the instruction faults. Only a CPU that can do that sets it.
		{name: "cpuid", call: "arch_prctl ARCH_SET_CPUID", get: call{arch.SysArchPrctl, []uint64{archGetCPUID}}, set: call{arch.SysArchPrctl, []uint64{archSetCPUID}}, usual: []uint64{1}, absent: true},
		// Of the process, too.
		{name: "timer-numbers", call: "prctl PR_TIMER_CREATE_RESTORE_IDS", get: prctl(prTimerRestoreIDs, prTimerRestoreIDsGet, 0, 0, 0), set: prctl(prTimerRestoreIDs), usual: []uint64{0}, absent: true},
		// Into a keyring of the thread or process, which has none, or is refused: to say so makes one. Who
		// comes from a helper of the kernel's begins so, and children of who has said so; without one
		// keys go where they go by default.
		{name: "requested-keys", call: "keyctl KEYCTL_SET_REQKEY_KEYRING", get: keyctl(unix.KEYCTL_SET_REQKEY_KEYRING, spec(unix.KEY_REQKEY_DEFL_NO_CHANGE)), set: keyctl(unix.KEYCTL_SET_REQKEY_KEYRING), usual: []uint64{unix.KEY_REQKEY_DEFL_DEFAULT, unix.KEY_REQKEY_DEFL_THREAD_KEYRING, unix.KEY_REQKEY_DEFL_PROCESS_KEYRING}, absent: true},
		{name: "io-priority", call: "ioprio_set", get: call{unix.SYS_IOPRIO_GET, []uint64{ioprioWhoProcess, 0}}, set: call{unix.SYS_IOPRIO_SET, []uint64{ioprioWhoProcess, 0}}, usual: []uint64{0}},
	}
	for i, name := range [...]string{"spec-store-bypass", "spec-indirect-branch", "spec-l1d-flush"} {
		list = append(list, attribute{
			name: name, call: "prctl PR_SET_SPECULATION_CTRL", get: prctl(prGetSpeculation, uint64(i)), set: prctl(prSetSpeculation, uint64(i)),
			usual: []uint64{specControl | specEnable}, settable: specControl, hide: specControl, absent: true, kept: specForceDisable,
		})
	}
	return list
}

// special tells whether a value is to be kept.
func (a *attribute) special(v uint64) bool {
	for _, u := range a.usual {
		if v == u {
			return false
		}
	}
	return v&a.settable == a.settable
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
	calls := make([]remote.Call, len(all))
	for i, a := range all {
		calls[i] = q.Batch.Try(a.name, a.get.nr, a.get.args...)
	}
	return func(c *core.CoreEntry) error {
		for i, a := range all {
			v, err := calls[i].Result()
			if a.absent && (errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || noKeyring(err)) {
				continue
			}
			if err != nil {
				return err
			}
			if a.special(uint64(v)) {
				putExtra(c, a.name, binary.LittleEndian.AppendUint64(nil, uint64(v)&^a.hide))
			}
		}
		return nil
	}, nil
}

// Restore implements kind.Facet.
func (Attributes) Restore(r *kind.Redo) error {
	for _, a := range attributes() {
		value := a.usual[0]
		b, err := sized(r.Extra, a.name, 8)
		if err != nil {
			return err
		}
		if b != nil {
			value = binary.LittleEndian.Uint64(b)
		} else if !a.always {
			continue
		}
		r.Batch.Call(a.call, a.set.nr, append(append([]uint64(nil), a.set.args...), value)...)
	}
	return nil
}

// TSC is whether a thread may read the time stamp counter, see
// PR_SET_TSC(2const).
type TSC struct{}

// Name implements kind.Facet.
func (TSC) Name() string { return "time stamp counter" }

// Dump implements kind.Facet. Only x86 has it.
func (TSC) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(4)
	get := q.Batch.Try("prctl PR_GET_TSC", unix.SYS_PRCTL, unix.PR_GET_TSC, uint64(at))
	return func(c *core.CoreEntry) error {
		if _, err := get.Result(); errors.Is(err, unix.EINVAL) {
			return nil
		} else if err != nil {
			return err
		}
		b, err := q.Batch.Output(at, 4)
		if err == nil && binary.LittleEndian.Uint32(b) != unix.PR_TSC_ENABLE {
			putExtra(c, extraTSC, b)
		}
		return err
	}, nil
}

// Restore implements kind.Facet.
func (TSC) Restore(r *kind.Redo) error {
	b, err := sized(r.Extra, extraTSC, 4)
	if b == nil || err != nil {
		return err
	}
	r.Batch.Call("prctl PR_SET_TSC", unix.SYS_PRCTL, unix.PR_SET_TSC, uint64(binary.LittleEndian.Uint32(b)))
	return nil
}

// MemPolicy is which NUMA nodes a thread's memory comes from by default, see
// set_mempolicy(2).
type MemPolicy struct{}

const nodeBytes = 128 // of a set of nodes: 1024 is the most Linux is built for

// Name implements kind.Facet.
func (MemPolicy) Name() string { return "NUMA policy" }

// Dump implements kind.Facet. A kernel without NUMA has no policies.
func (MemPolicy) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(8 + nodeBytes)
	call := q.Batch.Try("get_mempolicy", unix.SYS_GET_MEMPOLICY, uint64(at), uint64(at)+8, nodeBytes*8)
	return func(c *core.CoreEntry) error {
		if _, err := call.Result(); errors.Is(err, unix.ENOSYS) {
			return nil
		} else if err != nil {
			return err
		}
		b, err := q.Batch.Output(at, 8+nodeBytes)
		if err == nil && binary.LittleEndian.Uint32(b) != 0 { // MPOL_DEFAULT
			putExtra(c, extraMemPolicy, b)
		}
		return err
	}, nil
}

// Restore implements kind.Facet.
func (MemPolicy) Restore(r *kind.Redo) error {
	b, err := sized(r.Extra, extraMemPolicy, 8+nodeBytes)
	if b == nil || err != nil {
		return err
	}
	// The kernel counts one bit less than it is told.
	r.Batch.Call("set_mempolicy", unix.SYS_SET_MEMPOLICY, uint64(binary.LittleEndian.Uint32(b)), uint64(r.Batch.Bytes(b[8:])), nodeBytes*8)
	return nil
}
