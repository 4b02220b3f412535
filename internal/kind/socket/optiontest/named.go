package optiontest

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
)

// How many levels and numbers Named asks for. The kernel numbers options one after the
// other, and has none beyond.
const (
	levels  = 300
	numbers = 256
)

// Named asks a socket of this sort for every option of every level, whether it can be
// read or set, and fails for each that is neither in the table nor among those that have
// a reason, in whatever way the kernel answers: what an option that it has yet to get is
// for, and which values it takes, nobody knows here.
func Named(t *testing.T, table socket.Table, except map[ID]string, like func() (int, error)) {
	t.Helper()
	known := map[ID]bool{}
	for _, o := range table {
		known[ID{o.Level, o.Opt}] = true
	}
	n, err := like()
	if err != nil {
		t.Fatal(err)
	}
	for level := range levels {
		for opt := range numbers {
			id := ID{level, opt}
			if known[id] || except[id] != "" || aliases[id] != "" || reason(id) != "" {
				continue
			}
			if gets(n, id) {
				t.Errorf("option %d of level %d can be read, and has neither a row nor a reason", opt, level)
				continue
			}
			if !sets(n, id) {
				continue
			}
			t.Errorf("option %d of level %d can be set, and has neither a row nor a reason", opt, level)
			unix.Close(n)
			if n, err = like(); err != nil {
				t.Fatal(err)
			}
		}
	}
	unix.Close(n)
}

// unknown are what the kernel says of an option that it doesn't have.
func unknown(err error) bool {
	return errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EOPNOTSUPP)
}

// gets tells whether the kernel knows an option to read.
func gets(n int, id ID) bool {
	for _, size := range []int{4, 8, 256} {
		if _, err := linux.Getsockopt(n, id.Level, id.Opt, make([]byte, size)); !unknown(err) {
			return true
		}
	}
	return false
}

// sets tells whether the kernel knows an option to set.
func sets(n int, id ID) bool {
	for _, size := range []int{4, 256} {
		if err := linux.Setsockopt(n, id.Level, id.Opt, make([]byte, size)); !unknown(err) {
			return true
		}
	}
	return false
}
