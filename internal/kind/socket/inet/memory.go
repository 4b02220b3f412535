package inet

import (
	"slices"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
)

// KernelNames implements kind.MemoryUser.
func (k *Kind) KernelNames() []string {
	return slices.Concat(tcp.QueueNames(), datagramNames(), unsentNames(), liteNames(), groupNames(), keyNames(), unseenNames(), routerNames(), reuseNames(), socket.KernelNames())
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
	if !k.own {
		return nil
	}
	return k.mem.Close()
}
