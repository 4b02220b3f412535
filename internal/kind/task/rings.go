package task

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
)

// noThreadRing refuses a thread that has a keyring for itself: keyctl(2) of one
// thread changes nothing for the others. Keyring sees to that of the first.
func noThreadRing(q *kind.Question) func() error {
	own := q.Batch.Try("keyctl KEYCTL_GET_KEYRING_ID thread", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, spec(unix.KEY_SPEC_THREAD_KEYRING), 0)
	return func() error {
		if _, err := own.Result(); !noKeyring(err) {
			return kind.Unsupported(where(q), "it has a thread keyring (thread-keyring(7)), which cannot be saved; let it use its session's")
		}
		return nil
	}
}
