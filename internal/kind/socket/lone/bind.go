package lone

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// bind gives the socket its address, and has it listen.
func (n *node) bind(own int) error {
	if n.entry.Address == nil {
		return nil
	}
	err := linux.Bind(own, n.entry.Address)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("bind to %x: another socket has this address; end the program it belongs to: %w", n.entry.Address, err)
	}
	if err != nil {
		return fmt.Errorf("bind to %x: %w", n.entry.Address, err)
	}
	if n.entry.Backlog == nil {
		return nil
	}
	if err := unix.Listen(own, int(n.entry.GetBacklog())); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}
