//go:build amd64

package start

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

// What the Go runtime writes for itself is written, but for that it got no thread.
func TestOnWrite(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const text = "runtime: failed to create"
	said := []byte(text)
	if n := onWrite(w.Fd(), unsafe.Pointer(&said[0]), int32(len(said))); n != int32(len(said)) {
		t.Errorf("%d bytes written, want %d", n, len(said))
	}
	w.Close() //nolint:errcheck // what was written is read
	got := make([]byte, len(said)+1)
	if n, _ := r.Read(got); string(got[:n]) != text {
		t.Errorf("written was %q", got[:n])
	}
	if n := onWrite(^uintptr(0), unsafe.Pointer(&said[0]), 1); n >= 0 {
		t.Errorf("%d bytes were written to no file", n)
	}
}

// What is said of the least stack is what is asked for.
func TestLeastStack(t *testing.T) {
	if want := " " + strconv.Itoa(leastStack>>10) + " KiB "; !strings.Contains(noStack, want) {
		t.Errorf("%q does not say%q", noStack, want)
	}
}
