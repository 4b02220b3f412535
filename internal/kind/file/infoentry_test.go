package file

import "testing"

func TestInfoEntry(t *testing.T) {
	for name, want := range map[string]int32{
		"/proc/7/fdinfo/0": 0, "/proc/7/fdinfo/600": 600, "/proc/7/task/7/fdinfo/4": 4,
		"/proc/7/task/8/fdinfo/4": -1, "/proc/7/fd/4": -1, "/proc/7/fdinfo": -1, "/proc/7/fdinfo/x": -1, "/proc/7/fdinfo/-1": -1,
		"/proc/7/fdinfo/4294967296": -1, "/proc/7/root/fdinfo/4": -1, "/proc/07/fdinfo/4": -1, "/srv/7/fdinfo/4": -1, "/proc/0/fdinfo/4": -1,
	} {
		if got, ok := infoEntry(name); ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: %d, %t", name, got, ok)
		}
	}
}
