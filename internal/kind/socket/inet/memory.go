package inet

import (
	"errors"
	"slices"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
)

// KernelNames implements kind.MemoryUser.
func (k *Kind) KernelNames() []string {
	return slices.Concat(tcp.QueueNames(), datagramNames(), unsentNames(), liteNames(), groupNames(), keyNames(), unseenNames(), portlessNames(), labelNames(), []string{"sock.sk_ack_backlog", "sock.sk_max_ack_backlog"}, routerNames(), attachedNames(), reuseNames(), socket.KernelNames(), passedNames())
}

// UseMemory implements kind.MemoryUser.
func (k *Kind) UseMemory(m *kmem.Shared) { k.mem = m }

// memory returns what reads the kernel's memory, which is opened when it is
// first needed. Errors are kmem.ErrUnavailable.
func (k *Kind) memory() (*kmem.Reader, error) { return k.shared().Reader() }

func (k *Kind) shared() *kmem.Shared {
	if k.mem == nil {
		k.mem, k.own = kmem.Share(k.KernelNames()...), true
	}
	return k.mem
}

// Close implements kind.Closer.
func (k *Kind) Close() error {
	var err error
	if k.ownSockets != nil {
		err = k.ownSockets.Close()
	}
	if !k.own {
		return err
	}
	return errors.Join(err, k.mem.Close())
}
