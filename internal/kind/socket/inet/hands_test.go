package inet

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// All connections of this package's tests are made by rings, as those of a large
// tree are. What a ring fails of is tried one by one, as all is where there is none.
func init() { fewTogether = 0 }

// A hand that was given back is taken again; where the kernel has no rings, one is
// taken that makes each call at once.
func TestHands(t *testing.T) {
	if _, err := linux.NewRing(); err != nil {
		testkit.Lacks(t, "io_uring with bind (Linux 6.11)", err, unix.ENOSYS, unix.EPERM, unix.ENOTSUP)
	}
	k := New()
	a, b := k.takeHand(), k.takeHand()
	if !a.Waits() || !b.Waits() || a == b {
		t.Error("two at a time share a ring, or have none")
	}
	k.hands.give(a)
	if c := k.takeHand(); c != a {
		t.Error("another ring was made")
	}
	k.hands.give(a)
	k.hands.give(b)
	k.hands.drop()
	k.hands.none = true
	if k.takeHand().Waits() {
		t.Error("a ring was made where there are none")
	}
	k.hands.give(linux.Hand{})
}
