package proc

import (
	"fmt"
	"os"
	"strconv"
)

// Ours returns an error if /proc doesn't show the processes of the caller's PID
// namespace: everything here takes for granted that a number means the same process
// there and in a system call.
func Ours() error {
	link, err := os.Readlink("/proc/self")
	switch {
	case err != nil:
		return fmt.Errorf("/proc shows no processes, or not those of this PID namespace (%w); mount it: mount -t proc proc /proc", err)
	case link != strconv.Itoa(os.Getpid()):
		return fmt.Errorf("/proc shows the processes of another PID namespace, in which Glis is %s and not %d; mount that of this one, as unshare --mount-proc does", link, os.Getpid())
	}
	return nil
}
