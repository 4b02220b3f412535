package file

import (
	"testing"

	"golang.org/x/sys/unix"

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
