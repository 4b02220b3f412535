package taskmem

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// Where a domain is, is found out again and again to be in the same place, also beside
// threads that are in one; who has none is not said to have one.
func TestLandlock(t *testing.T) {
	if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); e != 0 {
		testkit.Lacks(t, "Landlock", e, unix.ENOSYS, unix.EOPNOTSUPP)
	}
	if !HasLandlock() {
		t.Fatal("the kernel is said not to have it")
	}
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(self)
	parent, err := unix.PidfdOpen(os.Getppid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(parent)
	in, out := make(chan error), make(chan bool)
	word := -1
	for i := range 40 {
		l, err := OpenLandlock()
		testkit.KernelMemory(t, err)
		if word < 0 {
			word = l.word
		}
		if l.word != word {
			t.Fatalf("it is at %d, and was at %d", l.word, word)
		}
		if i == 20 {
			go func() {
				runtime.LockOSThread() // never unlocked: the thread ends
				in <- restrict()
				<-out
			}()
			if err := <-in; err != nil {
				t.Fatal(err)
			}
		}
		if any, err := l.Any(parent, 1024); err != nil || any {
			t.Fatalf("the parent is in a sandbox: %v", err)
		}
		if i >= 20 {
			any, err := l.Any(self, 1024)
			if err != nil || !any {
				t.Fatalf("no thread is in a sandbox: %v", err)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	close(out)
}
