package socket

import (
	"strings"
	"testing"
)

// A socket is lent options and given back its own; one that this kernel doesn't have, as an
// older one than that of the dump, is refused, and nothing is changed.
func TestLend(t *testing.T) {
	k := newKernel(t)
	a, _ := newPair(t)
	before := save(t, k, a).Values
	same := func(when string) {
		t.Helper()
		for i, v := range save(t, k, a).Values {
			if v != before[i] {
				t.Errorf("%s: %s is %+v, was %+v", when, k.Table[i].Name, v, before[i])
			}
		}
	}
	other := []Told{{"SO_KEEPALIVE", Uint(1)}, {"SO_RXQ_OVFL", Uint(1)}}
	back, err := k.Lend(a, other)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range other {
		if v, _ := k.Value(save(t, k, a).Values, x.Name); v != x.Value {
			t.Errorf("%s is %+v, lent was %+v", x.Name, v, x.Value)
		}
	}
	if err := back(); err != nil {
		t.Fatal(err)
	}
	same("given back")
	i := k.Table.named("SO_RXQ_OVFL")
	k.Fresh[i], before[i] = Value{}, Value{}
	if _, err := k.Lend(a, other); err == nil || !strings.Contains(err.Error(), "SO_RXQ_OVFL: this kernel doesn't have it") {
		t.Errorf("an option that the kernel doesn't have: error %v", err)
	}
	same("refused")
}
