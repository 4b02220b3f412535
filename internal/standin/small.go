package standin

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/sockmem"
)

// counter makes an eventfd with the same counter.
func counter(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	count, semaphore, err := k.memory.Counter(x.At)
	if err != nil {
		return nil, err
	}
	flags := unix.EFD_CLOEXEC | int(x.Flags)&unix.O_NONBLOCK
	if semaphore {
		flags |= unix.EFD_SEMAPHORE
	}
	n, err := unix.Eventfd(0, flags)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	own := fd.New(n)
	if count > 0 {
		_, err = unix.Write(n, binary.NativeEndian.AppendUint64(nil, count))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("count on an eventfd to %d: %w", count, err), own.Close())
	}
	return own, nil
}

func signalNames() []string { return []string{"signalfd_ctx.sigmask"} }

// signals makes a signalfd of the same signals. The kernel keeps those that are not for it.
func signals(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	ctx, err := k.memory.Private(x.At)
	if err != nil {
		return nil, err
	}
	var b [8]byte
	if err := k.memory.ReadAt(b[:], ctx+k.memory.Off("signalfd_ctx.sigmask")); err != nil {
		return nil, err
	}
	set := &unix.Sigset_t{}
	set.Val[0] = ^binary.NativeEndian.Uint64(b[:])
	n, err := unix.Signalfd(-1, set, unix.SFD_CLOEXEC|int(x.Flags)&unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("signalfd: %w", err)
	}
	return fd.New(n), nil
}
