package testkit

import (
	"os"
	"testing"
)

func TestParseRelease(t *testing.T) {
	tests := []struct {
		in   string
		want Version
		bad  bool
	}{
		{in: "6.1.0-13-amd64", want: Version{6, 1}},
		{in: "6.18.44", want: Version{6, 18}},
		{in: "7.0-rc1", want: Version{7, 0}},
		{in: "linux", bad: true},
		{in: "", bad: true},
	}
	for _, x := range tests {
		got, err := parseRelease(x.in)
		if got != x.want && !x.bad || (err != nil) != x.bad {
			t.Errorf("parseRelease(%q) = %v, %v", x.in, got, err)
		}
	}
}

func TestVersionLess(t *testing.T) {
	ordered := []Version{{5, 10}, {6, 1}, {6, 18}, {7, 0}}
	for i, v := range ordered {
		for j, w := range ordered {
			if v.Less(w) != (i < j) {
				t.Errorf("%s.Less(%s) = %v", v, w, v.Less(w))
			}
		}
	}
}

func TestDiff(t *testing.T) {
	a, b := []string{"same", "gone", "twice", "twice", "noise 1"}, []string{"same", "new", "twice", "noise 2"}
	if got, want := Diff(a, b, "noise"), "+ new\n- gone\n- twice"; got != want {
		t.Errorf("Diff: %q, want %q", got, want)
	}
	if got := Diff(a, a); got != "" {
		t.Errorf("Diff of the same: %q", got)
	}
}

func TestTree(t *testing.T) {
	if ppid, ok := parent(os.Getpid()); !ok || ppid != os.Getppid() {
		t.Errorf("parent = %d, %v, want %d", ppid, ok, os.Getppid())
	}
	if tree := Tree(os.Getpid()); len(tree) == 0 || tree[0] != os.Getpid() {
		t.Errorf("Tree = %v", tree)
	}
	if tree := Tree(1 << 30); tree != nil {
		t.Errorf("Tree of nobody = %v", tree)
	}
}

func TestConstants(t *testing.T) {
	same := Observations{Seen: [][]string{{"=a: 1", "b"}, {"=a: 1", "c"}}}
	if got := constants(same); got != nil {
		t.Errorf("constants: %v", got)
	}
	if got := constants(Observations{Seen: [][]string{{"=a: 1"}, {"=a: 2"}}}); len(got) != 1 {
		t.Errorf("constants of a change: %v", got)
	}
}
