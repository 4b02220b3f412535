package dump

import (
	"bytes"
	"os"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/pages"
)

// What was kept in memory is in the files in the end, however it came there and
// however much it is.
func TestLater(t *testing.T) {
	for _, size := range []int{0, 1, 5000, 200_000, mostLater + 10} {
		dir, err := image.OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		l := newLater(dir)
		roomy := l.make("a.img", 100_000)
		plain, err := l.Create("b.img")
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		writeLater(t, roomy, want)
		if _, err := plain.Write([]byte("a head ")); err != nil {
			t.Fatal(err)
		}
		if _, err := plain.Write(want); err != nil {
			t.Fatal(err)
		}
		for _, f := range []image.WriteFile{roomy, plain} {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.finish(); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]byte{"a.img": want, "b.img": append([]byte("a head "), want...)} {
			if got, err := os.ReadFile(dir.String() + "/" + name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes: %s has %d, %v", size, name, len(got), err)
			}
		}
		if err := dir.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeLater writes the first half of b into memory that is lent, if it is, and
// the second from the end on.
func writeLater(t *testing.T, f image.WriteFile, b []byte) {
	t.Helper()
	half := len(b) / 2
	if to := f.(pages.Lender).Lend(0, half); to != nil {
		copy(to, b)
	} else if _, err := f.WriteAt(b[:half], 0); err != nil {
		t.Fatal(err)
	}
	for at := len(b); at > half; {
		n := min(at-half, 1000)
		at -= n
		if _, err := f.WriteAt(b[at:at+n], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
}

// A dump that fails leaves neither files nor memory.
func TestLaterDropped(t *testing.T) {
	dir, err := image.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	l := newLater(dir)
	f := l.make("a.img", 100_000)
	if _, err := f.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if err := l.drop(); err != nil {
		t.Fatal(err)
	}
	if names, err := dir.List(); len(names) > 0 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
}
