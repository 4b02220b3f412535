package socket

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const somaxconn = "/proc/sys/net/core/somaxconn"

// Listen makes a socket listen. The kernel would lower a backlog that is
// beyond net.core.somaxconn, and then turn clients away that were let wait
// before.
func Listen(fd, backlog int) error {
	text, err := os.ReadFile(somaxconn)
	if err != nil {
		return fmt.Errorf("read net.core.somaxconn: %w", err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("net.core.somaxconn: %w", err)
	}
	if backlog < 0 || backlog > limit {
		return fmt.Errorf("listen with a backlog of %d: this kernel allows %d; raise net.core.somaxconn", backlog, limit)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listen with a backlog of %d: %w", backlog, err)
	}
	return nil
}
