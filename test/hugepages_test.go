package test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// poolFile tells how many huge pages of 2 MiB there are.
const poolFile = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

func poolSize(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(poolFile)
	if err != nil {
		t.Skip("this kernel has no huge pages of 2 MiB (CONFIG_HUGETLBFS): ", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// hugePages adds n huge pages of 2 MiB to what the machine has, until the test
// is over.
func hugePages(t testing.TB, n int) {
	t.Helper()
	before := poolSize(t)
	t.Cleanup(func() { setPool(t, before) })
	setPool(t, before+n)
	if got := poolSize(t); got < before+n {
		t.Skipf("the machine has no room for %d huge pages (vm.nr_hugepages): %d of them", n, got-before)
	}
}

func twentyHugePages(t testing.TB) { hugePages(t, 20) }

func setPool(t testing.TB, n int) {
	t.Helper()
	if err := os.WriteFile(poolFile, []byte(strconv.Itoa(n)), 0); err != nil {
		t.Fatal(err)
	}
}

// takeHugePages reserves all that are free.
func takeHugePages(t *testing.T) (giveBack func()) {
	t.Helper()
	var all [][]byte
	for {
		mem, err := unix.Mmap(-1, 0, 2<<20, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB|unix.MFD_HUGE_2MB)
		if err != nil {
			break
		}
		all = append(all, mem)
	}
	return func() {
		for _, mem := range all {
			if err := unix.Munmap(mem); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestHugePagesMissing: a host that has too few is told before the first process.
func TestHugePagesMissing(t *testing.T) {
	e := glisOnly(t)
	hugePages(t, 20)
	x := target{name: "hugepages", args: []string{"more"}}.program(t)
	p, img := testkit.Start(t, testkit.NewDir(t), append(x.Argv, ".")...), testkit.NewDir(t)
	p.AwaitAt(t, 0)
	e.Save(t, p.PID, img)
	giveBack := takeHugePages(t)
	refused(t, e, []string{"restore", "-d", "-v1", "-D", img}, "huge pages of 2048 KiB are needed")
	giveBack()
	e.Restore(t, img)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}
