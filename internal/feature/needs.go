package feature

import (
	"context"

	"golang.org/x/sys/unix"
)

// needs are the rows of what Glis itself stands on.
func needs() []Probe {
	rows := []Probe{
		{Name: "kernel", Since: Floor, Need: Required, Test: atLeast(Floor), Without: "much of what Glis stands on is missing"},
		{Name: "checkpoint_restore", Since: Version{3, 18}, Need: Required, Test: prctlMMMap,
			Without: "no memory layout can be restored: use a kernel with CONFIG_CHECKPOINT_RESTORE"},
		{Name: "ptrace_seize", Need: Required, Test: ptraceAllowed, Without: "no process can be stopped"},
		{Name: "restore_pids", Since: Version{5, 5}, Need: Required, Test: clone3SetTID,
			Without: "processes can't have their numbers again: grant CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN"},
		{Name: "pidfd_getfd", Since: Version{5, 6}, Need: Required, Test: pidfdGetfd, Without: "open files can't be looked into"},
		{Name: "process_vm_readv", Need: Required, Test: vmReadv, Without: "memory can't be copied"},
		{Name: "memfd_exec", Need: Required, Test: memfdExec, Without: "no process can be started for a restore: set vm.memfd_noexec to 0 or 1"},
		{Name: "kcmp", Need: Required, Test: kcmp, Without: "it can't be told what processes share"},
		{Name: "map_files", Need: Required, Test: mapFiles, Without: "mapped files that were deleted or replaced can't be opened: grant CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN"},
		{Name: "proc_children", Need: Required, Test: procChildren, Without: "the processes of a tree can't be found: use a kernel with CONFIG_PROC_CHILDREN"},
		{Name: "proc_timers", Since: Version{3, 10}, Test: procTimers, Without: "POSIX timers can't be dumped"},
	}
	return append(rows, capabilities()...)
}

// capabilities are the ones that criu's users miss most often in containers.
func capabilities() []Probe {
	caps := []struct {
		name    string
		without string
		cap     int
	}{
		{"cap_sys_ptrace", "only processes of the same user, with no more capabilities, can be dumped", unix.CAP_SYS_PTRACE},
		{"cap_sys_admin", "processes under seccomp and namespaces can't be dumped", unix.CAP_SYS_ADMIN},
		{"cap_sys_resource", "hard limits above Glis's own, larger pipes than pipe-max-size and lower OOM scores can't come back", unix.CAP_SYS_RESOURCE},
		{"cap_setuid", "processes of other users can't be restored", unix.CAP_SETUID},
		{"cap_setgid", "processes of other groups can't be restored", unix.CAP_SETGID},
		{"cap_setpcap", "bounding sets of capabilities can't be restored", unix.CAP_SETPCAP},
		{"cap_kill", "processes of other users can't be ended after a dump", unix.CAP_KILL},
		{"cap_dac_override", "files of other users can't be opened", unix.CAP_DAC_OVERRIDE},
		{"cap_chown", "files and sockets of other users can't be made again", unix.CAP_CHOWN},
		{"cap_fowner", "modes of other users' files and sockets can't be restored", unix.CAP_FOWNER},
		{"cap_sys_nice", "real-time policies and raised priorities can't be restored", unix.CAP_SYS_NICE},
		{"cap_ipc_lock", "memory locked beyond the limit can't be restored", unix.CAP_IPC_LOCK},
		{"cap_sys_chroot", "processes with a root of their own can't be restored", unix.CAP_SYS_CHROOT},
		{"cap_net_admin", "some socket options, such as the size of forced buffers, can't be restored", unix.CAP_NET_ADMIN},
	}
	rows := make([]Probe, len(caps))
	for i, c := range caps {
		rows[i] = Probe{Name: c.name, Without: c.without, Test: func(context.Context) error { return hasCap(c.name, c.cap) }}
	}
	return rows
}
