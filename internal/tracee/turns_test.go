package tracee

import (
	"testing"
	"time"
)

// After a long turn of another's nobody asks again and again for a while.
func TestTurns(t *testing.T) {
	var machine turns
	now := time.Since(begun)
	machine.gave(now-longTurn/2, now)
	if !machine.alone() {
		t.Error("a short turn is taken for a long one")
	}
	machine.gave(now-2*longTurn, now+time.Hour)
	if machine.alone() {
		t.Error("a long turn is not noticed")
	}
	machine.gave(now-crowdedFor-2*longTurn, now-crowdedFor)
	if !machine.alone() {
		t.Error("a long turn is not forgotten")
	}
}
