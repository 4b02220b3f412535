package task

import (
	"reflect"
	"testing"

	"glis.dev/glis/internal/kind"
)

// TestLasts: only /proc/keys tells whether a key ends.
func TestLasts(t *testing.T) {
	const all = "0b1d2c3a I--Q---     1 perm 3f010000     0     0 user      plain: 6\n" +
		"0b1d2c3b I--Q---     1  10m 3f010000     0     0 user      ends: 6\n"
	for id, ok := range map[uint32]bool{0x0b1d2c3a: true, 0x0b1d2c3b: false, 7: false} {
		if err := lasts(all, id); (err == nil) != ok {
			t.Errorf("%#x: %v", id, err)
		}
	}
}

func FuzzKeyring(f *testing.F) {
	s := &sessionKeyring{userKey: userKey{perm: 0x3f1f0000, name: "login"}, linked: true, keys: []*userKey{{name: "n", payload: []byte("p")}}}
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeKeyring(kind.Extra{extraKeyring: b})
		if err != nil {
			return
		}
		if again, err := decodeKeyring(kind.Extra{extraKeyring: s.encode()}); err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%+v becomes %+v: %v", s, again, err)
		}
	})
}
