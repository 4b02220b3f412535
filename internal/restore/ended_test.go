package restore

import (
	"testing"

	"glis.dev/glis/internal/kind"
)

// Only the first of several threads may be one that ends before the others go on.
func TestMayEnd(t *testing.T) {
	several, alone := &task{pid: 5, threads: []uint32{5, 6}}, &task{pid: 5, threads: []uint32{5}}
	for _, c := range []struct {
		name  string
		t     *task
		tid   uint32
		value []byte
		ok    bool
	}{
		{"as it should be", several, 5, make([]byte, 4), true},
		{"no word of it", several, 6, nil, true},
		{"another thread", several, 6, make([]byte, 4), false},
		{"no other", alone, 5, make([]byte, 4), false},
		{"too short", several, 5, []byte{0}, false},
	} {
		th := &thread{task: c.t, tid: c.tid}
		if c.value != nil {
			th.extra = kind.Extra{"ended": c.value}
		}
		if err := th.mayEnd(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
