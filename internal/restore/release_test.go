package restore

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
)

// Many sockets get their options together, whatever they have of them already, unless one
// can't be told: then each is told by itself, and which one could not is said.
func TestSetTogether(t *testing.T) {
	var rings linux.Rings
	defer rings.Close()
	sockets := func() (all []resumption) {
		for range setAtOnce {
			n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			all = append(all, resumption{own: fd.New(n), opts: []linux.SockOpt{
				{Level: unix.SOL_SOCKET, Name: unix.SO_KEEPALIVE, Value: 1}, {Level: unix.SOL_SOCKET, Name: unix.SO_PRIORITY, Value: 3},
			}})
		}
		return all
	}
	all := sockets()
	for range 2 {
		if !setTogether(all, &rings) {
			t.Fatal("they aren't told together")
		}
	}
	for _, s := range all {
		prio, err := unix.GetsockoptInt(s.own.Int(), unix.SOL_SOCKET, unix.SO_PRIORITY)
		if alive, again := unix.GetsockoptInt(s.own.Int(), unix.SOL_SOCKET, unix.SO_KEEPALIVE); prio != 3 || alive != 1 || err != nil || again != nil {
			t.Fatalf("priority %d, keepalive %d, %v, %v", prio, alive, err, again)
		}
	}
	if setTogether(all[1:], &rings) {
		t.Error("few are told together")
	}
	all[7].opts[1].Level = unix.IPPROTO_UDP
	if setTogether(all, &rings) {
		t.Error("one can't be told, and nobody says so")
	}
	wantError(t, setAll(all, &rings), "option 12 of level 17")
	unused := sockets()
	unused[3].own.Close()
	unused[3].own = nil
	if setTogether(unused, &rings) {
		t.Error("one is nobody's, and nobody says so")
	}
	closeOwn(unused)
}
