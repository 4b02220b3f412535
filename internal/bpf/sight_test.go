package bpf

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// CanAttach tells what Attach would do, also where there is no room any more.
func TestCanAttach(t *testing.T) {
	testkit.RequireRoot(t)
	done := make(chan struct{})
	testkit.OnThread(func() {
		defer close(done)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		fill(t)
	})
	<-done
}

func fill(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Error(err)
		return
	}
	p, err := linux.BPFLoadClassifier([]Insn{In(MoveImm, 0, 0, 0, 0), In(Exit, 0, 0, 0, 0)}, License)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(p)
	one := Sight{Program: p, Index: lo.Index, Where: linux.BPF_TCX_INGRESS}
	for n := range linux.BPF_MPROG_MAX + 1 {
		can := CanAttach([]Sight{one})
		link, err := one.Attach()
		if (can == nil) != (err == nil) {
			t.Errorf("program %d: it is said to be %v, and is %v", n, can, err)
		}
		if err != nil {
			if !errors.Is(can, unix.ERANGE) || n == 0 {
				t.Errorf("program %d: %v", n, can)
			}
			return
		}
		defer unix.Close(link)
		// A program may be at a place once.
		if p, err = linux.BPFLoadClassifier([]Insn{In(MoveImm, 0, 0, 0, 0), In(Exit, 0, 0, 0, 0)}, License); err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(p)
		one.Program = p
	}
	t.Error("there is room for more than is said")
}
