package dump

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/scan"
)

// TestLookAt has many descriptors looked at at a time: each is what it is alone, what is
// known is left as it is, and one that is gone tells so.
func TestLookAt(t *testing.T) {
	f := newFiles(&scan.Tree{})
	defer f.close() //nolint:errcheck // nothing was written
	if err := f.openSelf(); err != nil {
		t.Fatal(err)
	}
	inTime := func() error { return nil }
	var fds []int32
	for i := range 3 * fewLooks {
		n, err := unix.Eventfd(uint(i), unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(n)
		fds = append(fds, int32(n))
	}
	known := []*scan.File{{Task: f.self, FD: fds[7], Link: "known"}}
	for i, at := range lookAt(f.self, fds, known, nil, inTime) {
		want, err := describe(f.self, fds[i])
		switch {
		case err != nil || at.err != nil || at.file == nil:
			t.Errorf("descriptor %d: %v, and alone %v", fds[i], at.err, err)
		case i == 7 && at.file != known[0]:
			t.Errorf("what was known of descriptor %d was looked for", fds[i])
		case i != 7 && (at.file.FD != fds[i] || at.file.Link != want.Link || at.file.Info().Ino != want.Info().Ino || *at.file.Info().Eventfd != *want.Info().Eventfd):
			t.Errorf("descriptor %d is %+v, and alone %+v", fds[i], at.file.Info(), want.Info())
		}
	}
	const nobodys = 1 << 30 // no limit lets a descriptor have it
	gone := lookAt(f.self, append(fds, nobodys), nil, nil, inTime)[len(fds)]
	if _, err := f.refer(f.self, nobodys, gone); err == nil {
		t.Error("a descriptor that is not there was found")
	}
	late := errors.New("over")
	for _, at := range lookAt(f.self, fds, nil, nil, func() error { return late }) {
		if at.file != nil || at.err != nil {
			t.Error("a descriptor was looked at when there was no time left")
		}
	}
}
