package testkit

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// No test is on the first thread, whose namespaces are the process's.
func TestNotOnFirstThread(t *testing.T) {
	for range 20 {
		done := make(chan int)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			done <- unix.Gettid()
		}()
		if tid := <-done; tid == os.Getpid() {
			t.Fatal("a goroutine has the first thread")
		}
	}
}
