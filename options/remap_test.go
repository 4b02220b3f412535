package options

import "testing"

func TestRemapAddr(t *testing.T) {
	for _, good := range []string{"10.0.0.1=10.0.0.2", "fd00::1=fd00::2", "::ffff:10.0.0.1=10.0.0.2"} {
		var r RemapAddr
		if err := r.Set(good); err != nil || !r.Old.IsValid() || !r.New.IsValid() || r.Old.Is4In6() {
			t.Errorf("%s: %v, %v", good, r, err)
		}
	}
	for _, bad := range []string{"", "=", "10.0.0.1", "10.0.0.1=", "10.0.0.1=fd00::1", "0.0.0.0=10.0.0.1", "10.0.0.1=0.0.0.0", "fe80::1%lo=fe80::2%lo", "a=b"} {
		if err := new(RemapAddr).Set(bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}
