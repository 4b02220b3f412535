package remote

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What keeps Glis's memory out of a task is named as what it is.
func TestWhyNoMemory(t *testing.T) {
	for err, word := range map[error]string{unix.EACCES: "execmem", unix.EPERM: "executable", unix.ENOMEM: "RLIMIT_AS", unix.EAGAIN: "no memory"} {
		if s := whyNoMemory(err); !strings.Contains(s, word) {
			t.Errorf("%v: %q", err, s)
		}
	}
}
