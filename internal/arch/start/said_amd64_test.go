package start

import (
	"regexp"
	"testing"
)

// What is said before there is a Go runtime, by assembly, is a line as of any other error, that
// says what to do.
func TestSaid(t *testing.T) {
	for _, said := range []string{noDescriptors, noMemory, noStack, noThread} {
		if !regexp.MustCompile(`^Error \(start\): .*; allow .* \(ulimit -[nvsu](, pids\.max of the cgroup)?\)\n$`).MatchString(said) {
			t.Errorf("%q", said)
		}
	}
	if fewest < 3 {
		t.Errorf("%d descriptors do for standard input, output and errors", fewest)
	}
}
