package unix

import (
	"runtime"

	sys "golang.org/x/sys/unix"
)

// onThread runs f on a thread that ends with it. It is never the process's
// first, which doesn't end, and whose directories others take for those of the
// process.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if sys.Gettid() != sys.Getpid() {
			f()
			return
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			f()
		}()
		<-done
		runtime.UnlockOSThread()
	}()
}
