package kind

import (
	"errors"
	"testing"
)

// A task is named once, whoever names it.
func TestAbout(t *testing.T) {
	plain := errors.New("bad")
	for _, c := range []struct {
		err  error
		want string
	}{{plain, "task 1 (a): bad"}, {Unsupported("task 1 (a)", "why"), "task 1 (a): not supported: why"}, {errors.New("task 1: bad"), "task 1: bad"}, {errors.New("task 12: bad"), "task 1 (a): task 12: bad"}} {
		for _, err := range []error{About("task 1 (a)", c.err), About("task 1 (a)", About("task 1 (a)", c.err))} {
			if err.Error() != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q, want %q", err, c.want)
			}
		}
	}
	if About("task 1", nil) != nil {
		t.Error("an error of nothing")
	}
}
