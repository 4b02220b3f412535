package test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/testkit"
)

// refusals are states of targets/refused.c, the row of docs/limits.md that says
// so, and words of the message.
var refusals = []struct {
	state, row, words string
}{
	{"vm", "shares its memory", "CLONE_VM"},
	{"exitsignal", "a child that tells its end by another signal", "SIGCHLD"},
	{"threaddirectory", "a thread with a working directory", "working directory, root and umask of its own"},
	{"dispatch", "Syscall User Dispatch (PR_SET", "PR_SET_SYSCALL_USER_DISPATCH"},
	{"listener", "seccomp filter with a listener", "SECCOMP_RET_USER_NOTIF"},
	{"undo", "has used SEM_UNDO", "SEM_UNDO"},
	{"deathsignal", "first thread has ended while others go on", "PR_SET_PDEATHSIG"},
	{"timerthread", "POSIX timer whose thread is gone", "timer"},
	{"ldt", "LDT segments", "LDT"},
	{"vdsomoved", "the kernel's code in the task (vdso)", "(vdso)"},
	{"keys", "a session keyring that holds keys", "holds a key"},
	{"keysrevoked", "a session keyring that holds keys", "KEYCTL_GET_KEYRING_ID"},
	{"threadkeys", "a thread or process keyring", "thread keyring"},
	{"threadring", "that only a thread has", "thread keyring"},
	{"landlock", "a Landlock sandbox", "landlock_restrict_self(2)"},
	{"landlockadmin", "a Landlock sandbox", "landlock_restrict_self(2)"},
	{"landlockadminthread", "a Landlock sandbox", "landlock_restrict_self(2)"},
	{"landlockthread", "a Landlock sandbox", "landlock_restrict_self(2)"},
	{"ports", "I/O ports (ioperm, iopl)", "ioperm(2)"},
	{"allports", "I/O ports (ioperm, iopl)", "iopl(2)"},
	{"signals", "SIGURG, SIGWINCH and SIGCHLD", "SIGURG"},
	{"session", "a session its parent has never been in", "session"},
	{"aio", "asynchronous I/O (io_setup) of which requests", "under way"},
	{"aiofork", "memory that a fork left of", "fork(2)"},
	{"fasttimer", "timerfd whose interval", "interval"},
	{"hungup", "hung up, but whose master is there", "hung up"},
	{"net", "another network namespace", "net namespace"},
	{"ipc", "a namespace of its own", "ipc namespace"},
	{"uts", "a namespace of its own", "uts namespace"},
	{"cgroup", "a namespace of its own", "cgroup namespace"},
	{"mnt", "a namespace of its own", "mnt namespace"},
	{"ttydiscipline", "an end of which has another line discipline", "TIOCSETD"},
	{"ttycontrol", "while it controls a session", "controls session"},
	{"ttyecho", "whose slave nobody has opened yet while", "nobody has opened its slave"},
	{"ttytyped", "whose slave nobody has opened yet while", "bytes that were typed"},
	{"mountfile", "the path leads nowhere, as that of a file from another mount namespace", "leads nowhere"},
	{"mountdetached", "a mount that is in no mount namespace", "in no mount namespace"},
	{"mountclone", "a mount that is in no mount namespace", "in no mount namespace"},
	{"mountdirectory", "a mount that is in no mount namespace", "in no mount namespace"},
	{"mountchanged", "a mount that is in no mount namespace", "in no mount namespace"},
	{"pid", "a namespace of its own", "pid namespace"},
	{"files", "descriptors or directories shared", "shares"},
	{"shmpart", "of which only a part is mapped", "only a part"},
	{"uffdmemory", "userfaultfd", "userfaultfd"},
	{"uffd", "userfaultfd, io_uring, BPF", "userfaultfd"},
	{"iouring", "userfaultfd, io_uring, BPF", "io_uring"},
	{"iouringworker", "a worker of the kernel's", "worker of the kernel's"},
	{"ghostlarge", "larger than 1 MiB", "--ghost-limit"},
	{"ghostappend", "deleted file that is append-only", "append-only"},
	{"memfdflags", "memfd with any flags of chattr", "ioctl_iflags(2)"},
	{"ghostxattr", "with extended attributes", "extended attribute"},
	{"linked", "but that has another one", "--link-remap"},
	{"lock", "file lock", "--file-locks"},
	{"pidfd", "pidfd of a process outside", "pidfd"},
	{"watchevents", "events that nobody has read", "events wait"},
	{"watchgone", "what is watched has no path", "has no path"},
	{"watchdecides", "FAN_CLASS_CONTENT", "FAN_CLASS_CONTENT"},
	{"nsfile", "userfaultfd, io_uring, BPF", "uts namespace"},
	{"queuegone", "whose name was removed (mq_unlink)", "mq_unlink"},
	{"queueelsewhere", "of another IPC namespace than", "another IPC namespace"},
	{"queuenotifies", "is told of the next message (mq_notify)", "mq_notify"},
	{"secret", "secret memory", "memfd_secret"},
	{"secretmemory", "secret memory", "memfd_secret"},
	{"longpath", "longer than 4095 bytes", "4095"},
	{"zombiememory", "a zombie that can't be opened again", "zombie"},
	{"endeddescriptors", "directory of descriptors of a process that has ended", "has ended"},
	{"descriptorlink", "entry of a task's own directory of descriptors", "about a descriptor"},
	{"descriptorinfo", "entry of a task's own directory of descriptors", "about a descriptor"},
	{"perf", "BPF and perf files", "perf_event"},
	{"device", "device, but null", "10:229"},
	{"notify", "asks for signals when something changes", "a process outside of the tree asks"},
	{"owner", "F_SETOWN", "F_SETOWN"},
	{"epollclosed", "epoll: watches a descriptor that was closed", "closed"},
	{"flowlabel", "a flow label that one process alone may lease", "IPV6_FL_S_PROCESS"},
	{"sockmap", "such a program with a map that holds sockets", "BPF_MAP_TYPE_SOCKMAP"},
	{"established", "TCP connections without", "--tcp-established"},
	{"savedsyn", "TCP_SAVE_SYN", "--tcp-established"},
}

// hasPorts tells whether the kernel has ioperm(2): giving up nothing is allowed.
func hasPorts() bool {
	if arch.SysIoperm == 0 {
		return false
	}
	_, _, e := unix.RawSyscall(arch.SysIoperm, 0, 1, 0)
	return e != unix.ENOSYS
}

// hasSecrets tells whether the kernel has memfd_secret(2).
func hasSecrets() bool {
	n, _, e := unix.RawSyscall(unix.SYS_MEMFD_SECRET, 0, 0, 0)
	if e == 0 {
		unix.Close(int(n))
	}
	return e == 0
}

// onlyMemory are states that aren't noticed where the kernel's memory can't be read.
var onlyMemory = []string{"landlock", "landlockthread", "flowlabel", "router"}

// TestLimits: each state is refused by name, and the target goes on unharmed.
func TestLimits(t *testing.T) {
	e := glisOnly(t)
	doc, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	path := testkit.BuildC(t, "targets/refused.c")
	for _, x := range refusals {
		t.Run(x.state, func(t *testing.T) {
			if strings.HasSuffix(x.state, "ports") && !hasPorts() {
				t.Skip("the kernel lets no program use I/O ports (CONFIG_X86_IOPL_IOPERM)")
			}
			if x.state == "dispatch" && testkit.Kernel(t).Less(testkit.Version{Major: 6, Minor: 4}) {
				t.Skip("the kernel does not tell of it (PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4)")
			}
			if strings.HasPrefix(x.state, "secret") && !hasSecrets() {
				t.Skip("the kernel has no secret memory (CONFIG_SECRETMEM, secretmem.enable)")
			}
			if !strings.Contains(string(doc), x.row) {
				t.Errorf("docs/limits.md does not say %q", x.row)
			}
			if slices.Contains(onlyMemory, x.state) {
				kernelMemory(t)
			}
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), path, x.state, ".")
			p.AwaitAt(t, 0)
			before := testkit.Look(t, p.PID)
			refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "-R"}, "not supported", x.words)
			testkit.Unharmed(t, p.PID)
			if d := testkit.Diff(before, testkit.Look(t, p.PID), "ticks: "); d != "" {
				t.Errorf("the target has changed:\n%s", d)
			}
			p.Go(t, 0, true)
			p.WaitExit(t, 0)
		})
	}
}
