package task

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// maxGroups is NGROUPS_MAX.
const maxGroups = 65536

// Check implements kind.Checker: a restored thread can't have a capability
// that the engine is denied, nor lose a no_new_privs that the engine has.
func (Creds) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	e := c.GetThreadCore().GetCreds()
	if e == nil {
		return kind.Unsupported("core image", "it has no credentials (made by a criu before 2.0)")
	}
	if len(e.Groups) > maxGroups {
		return fmt.Errorf("core image: %d groups are more than a process can have", len(e.Groups))
	}
	for _, need := range []int{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP} {
		if !env.Capable(need) {
			return fmt.Errorf("Glis needs %s to restore credentials; run it as root", capName(need))
		}
	}
	if nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && nnp == 1 && e.GetNoNewPrivs() == 0 {
		return fmt.Errorf("Glis runs with no_new_privs, which every process it makes keeps, but the saved one had it not; run Glis without (NoNewPrivileges= of systemd, --no-new-privs of setpriv)")
	}
	return checkCaps(env, whole(e.CapEff)|whole(e.CapPrm)|whole(e.CapInh), whole(e.CapBnd))
}

// checkCaps compares the sets of a thread with the engine's bounding set,
// which is all that a restored one can have.
func checkCaps(env *plan.CheckEnv, held, bounding uint64) error {
	var missing []string
	for i := range 64 {
		if (held|known(bounding))>>i&1 == 0 {
			continue
		}
		if !env.Bounded(i) {
			missing = append(missing, capName(i))
		}
	}
	if missing != nil {
		return fmt.Errorf("capabilities %s of the saved process cannot come back: Glis's own bounding set lacks them; run Glis where it has them (a container: --cap-add, or --privileged)", strings.Join(missing, ", "))
	}
	return nil
}

// capName names a capability for messages, by its number if it is a new one.
func capName(i int) string {
	names := [...]string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
		"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
		"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
		"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
		"CHECKPOINT_RESTORE",
	}
	if i < len(names) {
		return "CAP_" + names[i]
	}
	return fmt.Sprintf("CAP_%d", i)
}
