package feature

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// self gives an open /proc of the engine to use.
func self(use func(*proc.Dir) error) error {
	if err := proc.Ours(); err != nil {
		return err
	}
	d, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return conclude(err, "/proc of the engine itself")
	}
	defer d.Close()
	return use(d)
}

// kernelVersion reads the release by uname(2). It may be a distribution's,
// with features of later ones: prefer to ask for the feature itself.
func kernelVersion() (Version, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Version{}, conclude(err, "uname")
	}
	release := u.Release[:]
	major, rest, _ := bytes.Cut(release, []byte("."))
	end := bytes.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	a, err1 := strconv.Atoi(string(major))
	b, err2 := strconv.Atoi(string(rest[:max(end, 0)]))
	if err := errors.Join(err1, err2); err != nil {
		return Version{}, lack(err, "kernel release %q: want MAJOR.MINOR…", unix.ByteSliceToString(release))
	}
	return Version{a, b}, nil
}

// atLeast trusts the release, for what cannot be asked without doing it.
func atLeast(want Version) func(context.Context) error {
	return func(context.Context) error {
		have, err := kernelVersion()
		if err != nil {
			return err
		}
		if have.Less(want) {
			return lack(nil, "Linux is %v, %v is needed", have, want)
		}
		return nil
	}
}

// hasCap tests for an effective capability.
func hasCap(name string, c int) error {
	return self(func(d *proc.Dir) error {
		s, err := d.Status()
		if err != nil {
			return conclude(err, "capabilities")
		}
		if s.CapEff&(1<<c) == 0 {
			return lack(nil, "Glis runs without %s", name)
		}
		return nil
	})
}

// namespace tests for a type of namespace.
func namespace(name string) func(context.Context) error {
	return func(context.Context) error {
		return conclude(unix.Access("/proc/self/ns/"+name, unix.F_OK), name+" namespaces")
	}
}

// ptraceAllowed looks at what forbids ptrace(2) to everybody. To try it takes
// a process to be stopped.
func ptraceAllowed(context.Context) error {
	b, err := fd.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return conclude(err, "Yama")
	}
	switch string(bytes.TrimSpace(b)) {
	case "0":
		return nil
	case "3":
		return lack(nil, "kernel.yama.ptrace_scope is 3: nobody may trace until the next boot")
	}
	if err := hasCap("CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE); err != nil {
		return lack(err, "kernel.yama.ptrace_scope forbids it")
	}
	return nil
}

// seccompSuspend tests what the kernel asks of PTRACE_O_SUSPEND_SECCOMP, see
// ptrace(2): the option itself is only taken for a process to be stopped.
func seccompSuspend(ctx context.Context) error {
	if err := prctlMMMap(ctx); err != nil {
		return lack(err, "CONFIG_CHECKPOINT_RESTORE")
	}
	if _, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil {
		return conclude(err, "seccomp(2)")
	}
	if err := hasCap("CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN); err != nil {
		return err
	}
	return self(func(d *proc.Dir) error {
		s, err := d.Status()
		if err == nil && s.Seccomp != 0 {
			return lack(nil, "Glis itself runs under seccomp")
		}
		return conclude(err, "the engine's own seccomp mode")
	})
}

// seccompFilters: PTRACE_SECCOMP_GET_FILTER asks the same as
// PTRACE_O_SUSPEND_SECCOMP, and for filters to exist.
func seccompFilters(ctx context.Context) error {
	if err := seccompSuspend(ctx); err != nil {
		return err
	}
	return conclude(seccompActionAvail(unix.SECCOMP_RET_LOG), "seccomp(SECCOMP_GET_ACTION_AVAIL)")
}

// rseqConf: where rseq(2) is, PTRACE_GET_RSEQ_CONFIGURATION is since 5.13.
func rseqConf(ctx context.Context) error {
	if err := atLeast(Version{5, 13})(ctx); err != nil {
		return err
	}
	// Without an address it can't register anything: EINVAL.
	if _, _, e := unix.RawSyscall6(unix.SYS_RSEQ, 0, 0, 0, 0, 0, 0); e == unix.ENOSYS {
		return lack(e, "rseq(2)")
	}
	return nil
}

func clone3SetTID(context.Context) error {
	// The engine's own number is taken: EEXIST is the kernel's last word when
	// everything else would be granted.
	switch err := clone3Taken(os.Getpid()); err {
	case unix.EEXIST:
		return nil
	case unix.EPERM:
		return lack(err, "clone3(set_tid) needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN")
	default:
		return conclude(err, "clone3(set_tid)")
	}
}

func pidfdGetfd(context.Context) error {
	p, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return conclude(err, "pidfd_open")
	}
	defer unix.Close(p)
	n, err := unix.PidfdGetfd(p, p, 0)
	if err == nil {
		unix.Close(n)
	}
	return conclude(err, "pidfd_getfd")
}

func kcmp(context.Context) error {
	const kcmpVM = 1
	_, err := linux.Kcmp(os.Getpid(), os.Getpid(), kcmpVM, 0, 0)
	return conclude(err, "kcmp")
}

func kcmpEpoll(context.Context) error {
	e, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return conclude(err, "eventfd")
	}
	defer unix.Close(e)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return conclude(err, "epoll_create1")
	}
	defer unix.Close(ep)
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, e, &unix.EpollEvent{}); err != nil {
		return conclude(err, "epoll_ctl")
	}
	same, err := linux.KcmpEpoll(os.Getpid(), e, os.Getpid(), ep, int32(e), 0)
	if err == nil && !same {
		return lack(nil, "kcmp(KCMP_EPOLL_TFD) does not find a member of an epoll file")
	}
	return conclude(err, "kcmp(KCMP_EPOLL_TFD)")
}

// timerIDs: PR_TIMER_CREATE_RESTORE_IDS_GET changes nothing.
func timerIDs(context.Context) error {
	_, err := unix.PrctlRetInt(unix.PR_TIMER_CREATE_RESTORE_IDS, unix.PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0)
	return conclude(err, "prctl(PR_TIMER_CREATE_RESTORE_IDS)")
}

// breakpoints asks perf for a breakpoint that is never enabled.
func breakpoints(context.Context) error {
	const onExec, long = 4, 8 // HW_BREAKPOINT_X, HW_BREAKPOINT_LEN_8
	n, err := unix.PerfEventOpen(&unix.PerfEventAttr{
		Type:    unix.PERF_TYPE_BREAKPOINT,
		Size:    unix.PERF_ATTR_SIZE_VER5,
		Bits:    unix.PerfBitDisabled | unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv,
		Bp_type: onExec,
		Ext1:    1 << 12, // the address
		Ext2:    long,
	}, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err == nil {
		unix.Close(n)
	}
	return conclude(err, "perf_event_open(PERF_TYPE_BREAKPOINT)")
}

// apparmorStacking: profiles of namespaces can be read and stacked.
func apparmorStacking(context.Context) error {
	b, err := fd.ReadFile("/sys/kernel/security/apparmor/features/domain/stack")
	if err != nil {
		return conclude(err, "AppArmor")
	}
	if string(bytes.TrimSpace(b)) != "yes" {
		return lack(nil, "AppArmor says stack: %q", b)
	}
	return nil
}
