package inet

import (
	"slices"

	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
)

// memory returns what reads the kernel's memory, which is prepared when it is
// first needed: most dumps don't. Errors are kmem.ErrUnavailable.
func (k *Kind) memory() (*kmem.Reader, error) {
	if k.mem == nil {
		m, err := kmem.Open(slices.Concat(tcp.QueueNames(), datagramNames(), groupNames(), keyNames())...)
		if err != nil {
			return nil, err
		}
		k.mem = m
	}
	return k.mem, nil
}

// Close implements kind.Closer.
func (k *Kind) Close() error {
	if k.mem == nil {
		return nil
	}
	err := k.mem.Close()
	k.mem = nil
	return err
}
