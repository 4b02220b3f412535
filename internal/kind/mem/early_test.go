package mem

import (
	"bytes"
	"os"
	"testing"

	"glis.dev/glis/image"
)

// What was allocated beforehand and not written is given back; a file that
// nothing went into is empty.
func TestEarly(t *testing.T) {
	for _, written := range []int{0, page, 3 * page, 9 * page} {
		dir, err := image.OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		f, err := Early(dir, 5*page)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte{7}, written)
		for at := written - page; at >= 0; at -= page { // the last first
			if _, err := f.WriteAt(want[at:at+page], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(dir.String() + "/" + image.Pages.FileName(1))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes written: %d, %v", written, len(got), err)
		}
		if err := dir.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
