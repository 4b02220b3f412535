package restore

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/remote"
)

// transport is the socket that descriptors go to tasks through. All tasks
// inherit one end; whoever's batch runs next takes what was sent last.
type transport struct {
	ours, theirs *fd.FD
	number       int32 // of the tasks' end, in each of them
}

func newTransport(number int32) (*transport, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	t := &transport{ours: fd.New(p[0]), theirs: fd.New(p[1]), number: number}
	t.widen()
	return t, nil
}

// widen gives it room for all that is sent before a task takes it: a message of
// fd.MaxRights descriptors takes as much as a KiB. Without CAP_NET_ADMIN there is only so
// much (net.core.wmem_max), and fd.Send fails if it is not enough.
func (t *transport) widen() {
	for _, opt := range []int{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF} {
		if unix.SetsockoptInt(t.ours.Int(), unix.SOL_SOCKET, opt, math.MaxInt32/2) == nil {
			return
		}
	}
}

func (t *transport) close() {
	t.ours.Close()
	t.theirs.Close()
}

// send sends descriptors and has the batch take them: the kernel gives them
// the lowest free numbers, in order.
func (t *transport) send(b *remote.Batch, fds []int, flags uint64) error {
	for len(fds) > 0 {
		n := min(len(fds), fd.MaxRights)
		err := fd.Send(t.ours.Int(), fds[:n])
		if errors.Is(err, unix.EAGAIN) {
			err = fmt.Errorf("too many descriptors are on their way to one process; raise the limit (sysctl net.core.wmem_max), or restore with CAP_NET_ADMIN: %w", err)
		}
		if err != nil {
			return err
		}
		t.receive(b, n, flags)
		fds = fds[n:]
	}
	return nil
}

// Sizes in struct msghdr and struct cmsghdr, see recvmsg(2).
const cmsgHeader = 16

// receive queues the recvmsg(2) for one message of n descriptors.
func (t *transport) receive(b *remote.Batch, n int, flags uint64) {
	control := (cmsgHeader + 4*n + 7) &^ 7
	ctl, _ := b.Alloc(control)
	data, _ := b.Alloc(1)
	iov := b.U64(uint64(data), 1)
	header := b.U64(0, 0, uint64(iov), 1, uint64(ctl), uint64(control), 0)
	b.Call("recvmsg", unix.SYS_RECVMSG, uint64(t.number), uint64(header), flags)
}
