package tcp

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Where connections can't be put back because of a sysctl, it is named.
func TestWithoutCookies(t *testing.T) {
	testkit.RequireRoot(t)
	failed := make(chan error)
	testkit.OnThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = os.WriteFile(syncookies, []byte("0"), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
		a, err := NewAdmitter()
		if err == nil {
			_ = a.Close()
		}
		failed <- err
	})
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "net.ipv4.tcp_syncookies") {
		t.Errorf("without tcp_syncookies: %v", err)
	}
}
