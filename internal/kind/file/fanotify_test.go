package file

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// The flags of fanotify_init(2) are told in fdinfo, with those of the first descriptor.
func TestFanotifyFlags(t *testing.T) {
	for _, flags := range []uint{unix.FAN_NONBLOCK, unix.FAN_CLOEXEC, unix.FAN_CLASS_NOTIF} {
		n, err := unix.FanotifyInit(flags, unix.O_RDONLY)
		if err != nil {
			testkit.Lacks(t, "fanotify (CONFIG_FANOTIFY)", err, unix.ENOSYS)
		}
		own(t, n, nil)
		g := self(t)
		f := g.add(n)
		d := g.roundTrip()[1].Int()
		is := g.add(d)
		if is.Info().Fanotify.Flags != f.Info().Fanotify.Flags || flagsOf(t, d) != flagsOf(t, n) {
			t.Errorf("flags %#x and %#o, were %#x and %#o", is.Info().Fanotify.Flags, flagsOf(t, d), f.Info().Fanotify.Flags, flagsOf(t, n))
		}
		if how, err := unix.FcntlInt(uintptr(d), unix.F_GETFD, 0); how != unix.FD_CLOEXEC || err != nil {
			t.Errorf("the descriptor has %d, %v", how, err)
		}
	}
}

// Who made a file without CAP_SYS_ADMIN is told less, which fdinfo doesn't tell.
func TestFanotifyUnprivileged(t *testing.T) {
	memory := kmem.Share(fanotifyNames...)
	defer memory.Close()
	if _, err := memory.Reader(); err != nil {
		testkit.KernelMemory(t, err)
	}
	for _, flags := range []uint32{unix.FAN_REPORT_FID, unix.FAN_REPORT_FID | linux.FANOTIFY_UNPRIV, unix.FAN_REPORT_DFID_NAME | linux.FANOTIFY_UNPRIV} {
		n, err := linux.FanotifyInit(flags, unix.O_RDONLY)
		if err != nil {
			testkit.Lacks(t, "fanotify (CONFIG_FANOTIFY)", err, unix.ENOSYS)
		}
		own(t, n, nil)
		g := self(t)
		g.add(n)
		is, err := fanotifyFlags(memory, g.roundTrip()[1])
		if is != flags || err != nil {
			t.Errorf("flags %#x, were %#x (%v)", is, flags, err)
		}
	}
}

// Where nobody tells who made a file, one that may be of somebody without CAP_SYS_ADMIN is
// refused, and others are not.
func TestFanotifyUnread(t *testing.T) {
	for flags, want := range map[uint]string{unix.FAN_CLASS_NOTIF: "", unix.FAN_REPORT_TID: "", unix.FAN_REPORT_FID: "made without CAP_SYS_ADMIN"} {
		n, err := unix.FanotifyInit(flags, unix.O_RDONLY)
		if err != nil {
			testkit.Lacks(t, "fanotify (CONFIG_FANOTIFY)", err, unix.ENOSYS)
		}
		own(t, n, nil)
		g := self(t)
		g.kinds = []kind.File{&Fanotify{memory: kmem.Share("no_such_structure.member")}}
		g.add(n)
		if err := g.dump(); want != "" {
			mustFail(t, err, want, "not supported")
		} else if err != nil {
			t.Errorf("flags %#x: %v", flags, err)
		}
	}
}
