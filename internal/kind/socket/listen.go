package socket

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

const somaxconn = "/proc/sys/net/core/somaxconn"

// Somaxconn returns how many connections may wait at one listener.
func Somaxconn() (int, error) {
	text, err := fd.ReadFile(somaxconn)
	if err != nil {
		return 0, fmt.Errorf("read net.core.somaxconn: %w", err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("net.core.somaxconn: %w", err)
	}
	return limit, nil
}

// Listen makes a socket listen. The kernel would lower a backlog that is
// beyond net.core.somaxconn, and then turn clients away that were let wait
// before.
func Listen(fd, backlog int) error {
	limit, err := Somaxconn()
	if err != nil {
		return err
	}
	if backlog < 0 || backlog > limit {
		return fmt.Errorf("listen with a backlog of %d: this kernel allows %d; raise net.core.somaxconn", backlog, limit)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listen with a backlog of %d: %w", backlog, err)
	}
	return nil
}
