package hugepages

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

func TestSize(t *testing.T) {
	for _, size := range []uint64{64 << 10, 2 << 20, 1 << 30, 16 << 30} {
		if got := Size(unix.MAP_SHARED | unix.MAP_HUGETLB | Flag(size)); got != size {
			t.Errorf("%d becomes %d", size, got)
		}
	}
	for _, flags := range []uint32{0, unix.MAP_HUGETLB, 63 << unix.MAP_HUGE_SHIFT, 22 << unix.MAP_HUGE_SHIFT} {
		if got := Size(flags); got != 0 {
			t.Errorf("%#x: %d", flags, got)
		}
	}
}

// TestOfDevice tells the kernel's own file systems apart.
func TestOfDevice(t *testing.T) {
	plain, err := unix.MemfdCreate("plain", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(plain)
	look := func(fd int) (dev, byFile uint64) {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		size, err := OfFile(fd)
		if err != nil {
			t.Fatal(err)
		}
		return st.Dev, size
	}
	dev, size := look(plain)
	if size != 0 || OfDevice(dev) != 0 {
		t.Errorf("a memfd has huge pages: %d, %d", size, OfDevice(dev))
	}
	if SharedID(dev, 5) != 5 {
		t.Errorf("a memfd's id is %#x", SharedID(dev, 5))
	}
	huge, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	if err != nil {
		testkit.Lacks(t, "huge pages of 2 MiB (CONFIG_HUGETLBFS)", err, unix.EINVAL, unix.ENODEV, unix.ENOSYS)
	}
	defer unix.Close(huge)
	if dev, size = look(huge); size != 2<<20 || OfDevice(dev) != 2<<20 {
		t.Errorf("a memfd of huge pages: %d, %d", size, OfDevice(dev))
	}
	if SharedID(dev, 5) == 5 {
		t.Error("a memfd of huge pages has the id of another one")
	}
}

// TestWanted: what several mappings and the contents of a file have in common
// is counted once.
func TestWanted(t *testing.T) {
	const size = 2 << 20
	var w Wanted
	w.Add(size, 1)
	w.Map(1, Range{0, 2 * size})
	w.Map(2, Range{size, 3 * size})
	w.AddFile(size, []uint32{1, 2}, []Range{{5 * size, 5*size + 4096}, {6*size - 4096, 6 * size}})
	if got := w.bytes[size] / size; got != 5 {
		t.Errorf("%d pages, want 5", got)
	}
	if err := (&Wanted{}).Check(); err != nil {
		t.Error(err)
	}
	w.Add(size, 1<<50)
	if _, ok := available(size); !ok {
		t.Skip("this kernel has no huge pages of 2 MiB (CONFIG_HUGETLBFS)")
	}
	if err := w.Check(); err == nil || !strings.Contains(err.Error(), "huge pages of 2048 KiB") {
		t.Error(err)
	}
}
