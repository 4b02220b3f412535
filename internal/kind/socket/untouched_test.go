package socket

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

func learnUntouched(t testing.TB) (*Kernel, *Untouched) {
	t.Helper()
	k := newKernel(t)
	u, err := LearnUntouched(k)
	testkit.KernelMemory(t, err)
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return k, u
}

type touched struct{ options, owner bool }

func lookAt(t testing.TB, u *Untouched) map[int32]touched {
	t.Helper()
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(self)
	out := map[int32]touched{}
	if err := u.Look(self, func(fd int32, options, owner bool, _ [2]uint64, _ uint32) error {
		out[fd] = touched{options, owner}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// Whatever is set, a socket that has it is never called untouched: every
// option, to values that differ from a new socket's in one bit or in many.
func TestTouched(t *testing.T) {
	k, u := learnUntouched(t)
	rng := rand.New(rand.NewPCG(1, 2))
	what := map[int32]string{}
	for i := range k.Table {
		o := &k.Table[i]
		if !k.Fresh[i].OK || k.fixed[i] {
			continue
		}
		for range 40 {
			a, _ := newPair(t)
			v := Value{Lo: rng.Uint64() >> rng.UintN(64), OK: true}
			if o.Size == 4 {
				v.Lo = uint64(uint32(v.Lo))
			}
			if o.Size == 16 {
				v.Hi = rng.Uint64N(1e6)
			}
			if k.set(linux.Hand{}, a, i, v) != nil {
				continue // a value that the kernel refuses
			}
			if got, err := o.get(a); err == nil && got != k.Fresh[i] {
				what[int32(a)] = o.Name
			}
		}
	}
	for fd, x := range lookAt(t, u) {
		if what[fd] != "" && !x.options {
			t.Errorf("%s was set and isn't seen", what[fd])
		}
	}
	if len(what) < 300 {
		t.Errorf("only %d sockets were tried", len(what))
	}
}

func TestTouchedOwner(t *testing.T) {
	_, u := learnUntouched(t)
	a, b := newPair(t)
	c, d := newPair(t)
	if err := linux.FcntlSetOwnerEx(a, linux.FOwnerEx{Type: linux.F_OWNER_PGRP, PID: int32(unix.Getpgrp())}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(c), linux.F_SETSIG, 40); err != nil {
		t.Fatal(err)
	}
	got := lookAt(t, u)
	for fd, want := range map[int]bool{a: true, b: false, c: true, d: false} {
		if got[int32(fd)].owner != want {
			t.Errorf("descriptor %d: owner %v, want %v", fd, got[int32(fd)].owner, want)
		}
	}
}

// What is only used is mostly called untouched; otherwise it is of no use.
func TestUntouchedSockets(t *testing.T) {
	_, u := learnUntouched(t)
	var fds []int
	for i := range 50 {
		a, b := newPair(t)
		fds = append(fds, a, b)
		if err := unix.Sendmsg(a, make([]byte, 100*i+1), nil, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	got, n := lookAt(t, u), 0
	for _, fd := range fds {
		if x := got[int32(fd)]; x.options || x.owner {
			n++
		}
	}
	if n > len(fds)/2 {
		t.Errorf("%d of %d sockets that are only used are called touched", n, len(fds))
	}
}

func TestPattern(t *testing.T) {
	base := []byte{0, 0, 0, 0, 9, 9, 9, 9}
	p := pattern{base: base, mask: make([]byte, 8)}
	noise := []byte{0, 0, 0, 0xf0, 0, 0, 0, 0}
	if a := []byte{0, 0, 0, 0x70, 9, 9, 9, 9}; p.learn(a, a, noise, 4) {
		t.Error("learnt from noise")
	}
	if p.learn([]byte{4, 0, 0, 0, 9, 9, 9, 9}, []byte{8, 0, 0, 0, 9, 9, 9, 9}, noise, 4) {
		t.Error("learnt from what only one has")
	}
	if !p.learn([]byte{1, 0, 0, 0, 9, 9, 9, 9}, []byte{1, 0, 0, 0, 9, 9, 9, 8}, noise, 4) {
		t.Error("didn't learn")
	}
	p.seal()
	for _, tt := range []struct {
		in   []byte
		want bool
	}{
		{base, true},
		{[]byte{0, 0, 0, 0x30, 8, 8, 8, 8}, true},
		{[]byte{0, 0, 0, 1, 9, 9, 9, 9}, false},
		{[]byte{0, 1, 0, 0, 9, 9, 9, 9}, false},
		{base[:4], false},
	} {
		if got := p.matches(tt.in); got != tt.want {
			t.Errorf("%x: %v", tt.in, got)
		}
	}
}

func BenchmarkLearnUntouched(b *testing.B) {
	k := newKernel(b)
	for b.Loop() {
		u, err := LearnUntouched(k)
		if err != nil {
			b.Skip(err)
		}
		if err := u.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// Bits of an address in the kernel that were the same in all sockets that were learnt from
// don't count: another one may be anywhere. A number counts.
func TestAddressesDontCount(t *testing.T) {
	base := binary.LittleEndian.AppendUint64(nil, 0xffff8881ab859230)
	base = binary.LittleEndian.AppendUint64(base, 0x1234)
	base = binary.LittleEndian.AppendUint64(base, 0xffffffff81000000)
	noise := make([]byte, len(base))
	noise[0], noise[8] = 0xf0, 0x0f
	addresses(noise, base, 47)
	want := append(bytes.Repeat([]byte{0xff}, 8), 0x0f)
	if !bytes.Equal(noise, append(want, make([]byte, 15)...)) {
		t.Errorf("%x", noise)
	}
	five := binary.LittleEndian.AppendUint64(nil, 0xff110001ab859230) // with page tables of five levels
	for bits, want := range map[int][]byte{47: {0, 0xf0, 7: 0}, 56: bytes.Repeat([]byte{0xff}, 8)} {
		noise := []byte{0, 0xf0, 7: 0}
		if addresses(noise, five, bits); !bytes.Equal(noise, want) {
			t.Errorf("%d bits: %x", bits, noise)
		}
	}
}
