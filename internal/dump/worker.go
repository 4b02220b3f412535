package dump

import (
	"errors"
	"strings"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// notWorker refuses a thread that is a worker of the kernel's. It runs nothing of the
// program's, so what a dump has threads do it would never do; and to stop it would end
// the request that it waits in (EINTR), so it is refused before it is asked to.
//
// No worker has a list of robust futexes, as threads of glibc do: that is asked first,
// since it costs one call.
func notWorker(t *scan.Task, tid proc.TID) error {
	if proc.PID(tid) == t.PID || linux.HasRobustList(int(tid)) {
		return nil
	}
	st, err := t.Dir.ThreadStat(tid)
	if errors.Is(err, proc.ErrGone) {
		return nil // to seize it tells
	}
	if err != nil || !st.Worker() {
		return kind.About(t, err)
	}
	advice := "close what made it (vhost: start qemu with vhost=off)"
	if strings.HasPrefix(st.Comm, "iou-") {
		advice = kind.WithoutRings
	}
	return kind.Unsupported(t, "its thread %d (%s) is a worker of the kernel's (io_uring, vhost), which Glis can't make again; %s", tid, st.Comm, advice)
}
