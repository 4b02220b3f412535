package vmamem

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// A property without a name is taken for that of memory that is locked as it is touched
// where the kernel says so of such memory, and nowhere else.
func TestNameOnFault(t *testing.T) {
	was := onFaultIsNameless
	defer func() { onFaultIsNameless = was }()
	for _, old := range []bool{false, true} {
		onFaultIsNameless = func() bool { return old }
		vmas := []proc.VMA{
			{Flags: proc.VmRead | proc.VmLocked, Unknown: []string{nameless}},
			{Flags: proc.VmRead, Unknown: []string{nameless}},
			{Flags: proc.VmRead | proc.VmLocked, Unknown: []string{nameless, nameless}},
			{Flags: proc.VmRead | proc.VmLocked | proc.VmLockOnFault, Unknown: []string{nameless}},
			{Flags: proc.VmRead | proc.VmLocked, Unknown: []string{"zz"}},
		}
		nameOnFault(vmas)
		for i, v := range vmas {
			known := old && i == 0
			if named := v.Unknown == nil && v.Flags&proc.VmLockOnFault != 0; named != known {
				t.Errorf("kernel without a name %v, mapping %d: %v, unknown %q", old, i, v.Flags, v.Unknown)
			}
		}
	}
}

// What the kernel says of such memory is found out, whether it has a code for it or not.
func TestOnFaultTold(t *testing.T) {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b) //nolint:errcheck // the test ends
	if err := linux.Mlock2(b, linux.MLOCK_ONFAULT); err != nil {
		t.Skip("RLIMIT_MEMLOCK lets nothing be locked: ", err)
	}
	d, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	vmas, err := Smaps(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vmas {
		if v.Flags.Has(proc.VmLocked | proc.VmLockOnFault) {
			return
		}
	}
	t.Error("nothing is told to be locked as it is touched")
}
