package proc

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Mappings are as they were when they have been put down, and take little room.
func TestPacker(t *testing.T) {
	var p Packer
	var all [][]VMA
	var packed []Packed
	for range 2 {
		d, err := Open(PID(os.Getpid()))
		if err != nil {
			t.Fatal(err)
		}
		vmas, err := d.Smaps()
		d.Close()
		if err != nil {
			t.Fatal(err)
		}
		n := len(vmas)
		vmas = append(vmas[:n:n], VMA{Start: 1<<64 - 8192, End: 1<<64 - 4096, Prot: 7, Shared: true, Deleted: true, Offset: 1 << 60, DevMajor: 1<<32 - 1, DevMinor: 7, Inode: 1<<64 - 1, Name: "/a b", Flags: 1 << 63, Pkey: 15})
		b, ok := p.Pack(vmas)
		if !ok || len(b) > 32*len(vmas) {
			t.Fatalf("%d bytes for %d mappings, %v", len(b), len(vmas), ok)
		}
		all, packed = append(all, vmas), append(packed, b)
	}
	for i := range all {
		if diff := cmp.Diff(all[i], p.Unpack(packed[i])); diff != "" {
			t.Error(diff)
		}
	}
	if _, ok := p.Pack([]VMA{{End: 4096, Unknown: []string{"zz"}}}); ok {
		t.Error("a flag that nobody knows is lost")
	}
}
