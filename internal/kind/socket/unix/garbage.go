package unix

import (
	"errors"
	"fmt"
	"time"

	sys "golang.org/x/sys/unix"
)

// Sockets that are only in each other's queues are garbage, and keep their names
// until the kernel notices: it looks when a unix socket is closed, and clears
// them away a little later.

// How long, and how often, a name is tried that garbage may have.
const (
	garbageTime  = 2 * time.Second
	garbagePause = 2 * time.Millisecond
)

// afterGarbage tries to bind until it works, as long as garbage may have the
// name: a process that can be seen is none.
func afterGarbage(name []byte, bind func() error) error {
	err := bind()
	if errors.Is(err, sys.EADDRINUSE) && processOf(holding(name)) != "" {
		return err
	}
	for end := time.Now().Add(garbageTime); errors.Is(err, sys.EADDRINUSE) && time.Now().Before(end); {
		n, e := sys.Socket(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
		if e != nil {
			return errors.Join(err, fmt.Errorf("socket: %w", e))
		}
		if e := sys.Close(n); e != nil { // now the kernel looks
			return errors.Join(err, e)
		}
		time.Sleep(garbagePause)
		err = bind()
	}
	return err
}
