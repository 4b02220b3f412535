package mem

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// bitOf says what a flag of smaps becomes in an image.
type bitOf struct {
	vm   proc.VmFlags
	flag uint32 // MAP_*
	advice,
	extra uint64
}

var bits = [...]bitOf{
	{vm: proc.VmGrowsDown, flag: unix.MAP_GROWSDOWN},
	{vm: proc.VmLocked, flag: unix.MAP_LOCKED},
	{vm: proc.VmNoReserve, flag: unix.MAP_NORESERVE},
	{vm: proc.VmDroppable, flag: linux.MAP_DROPPABLE},
	{vm: proc.VmSeqRead, advice: 1 << unix.MADV_SEQUENTIAL},
	{vm: proc.VmRandRead, advice: 1 << unix.MADV_RANDOM},
	{vm: proc.VmDontCopy, advice: 1 << unix.MADV_DONTFORK},
	{vm: proc.VmDontDump, advice: 1 << unix.MADV_DONTDUMP},
	{vm: proc.VmMergeable, advice: 1 << unix.MADV_MERGEABLE},
	{vm: proc.VmHugePage, advice: 1 << unix.MADV_HUGEPAGE},
	{vm: proc.VmNoHugePage, advice: 1 << unix.MADV_NOHUGEPAGE},
	{vm: proc.VmWipeOnFork, advice: 1 << unix.MADV_WIPEONFORK},
	{vm: proc.VmLockOnFault, extra: extraLockOnFault},
	{vm: proc.VmSealed, extra: extraSealed},
}

// setFlags takes over a mapping's flags.
func (a *area) setFlags(v *proc.VMA) error {
	if v.Name == "[vsyscall]" {
		return nil
	}
	own := v.Name == "[vdso]" || strings.HasPrefix(v.Name, "[vvar")
	if !own {
		if err := refuse(v); err != nil {
			return err
		}
	}
	for _, b := range &bits {
		if v.Flags.Has(b.vm) {
			a.flags |= b.flag
			a.madvise |= b.advice
			a.extra |= b.extra
		}
	}
	switch {
	case own:
		// The kernel maps it anew with all that it wants it to have.
		a.extra = 0
	case a.flags&linux.MAP_DROPPABLE != 0:
		// That implies private, wipe on fork and no dump.
		a.flags &^= unix.MAP_PRIVATE | unix.MAP_NORESERVE
		a.madvise &^= 1<<unix.MADV_WIPEONFORK | 1<<unix.MADV_DONTDUMP
	}
	return nil
}

// refusals are properties of a mapping that can't be brought back.
var refusals = [...]struct {
	vm   proc.VmFlags
	what string
}{
	{proc.VmUffdMissing | proc.VmUffdWP | proc.VmUffdMinor, "a userfaultfd handles its page faults (a migration of qemu, lazy pages of criu, a garbage collector); end that before the dump"},
	{proc.VmShadowStack, "it is a shadow stack; start the program without (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)"},
	{proc.VmPFNMap | proc.VmIO, "it is the memory of a device, which only its driver could bring back"},
	{proc.VmSync, "it is mapped with MAP_SYNC, which Glis can't restore yet"},
	{proc.VmMTE | proc.VmBTI | proc.VmArch1, "it has a property of this CPU architecture that Glis can't restore yet"},
}

func refuse(v *proc.VMA) error {
	if strings.HasPrefix(v.Name, "[uprobes]") {
		return errors.New("a uprobe was hit in the task; end the tracing and restart it")
	}
	for _, r := range &refusals {
		if v.Flags&r.vm != 0 {
			return errors.New(r.what)
		}
	}
	// The kernel itself gives code that can't be read a key.
	if v.Pkey != 0 && v.Prot != unix.PROT_EXEC {
		return fmt.Errorf("it has the protection key %d (pkey_mprotect), which Glis can't restore yet", v.Pkey)
	}
	if len(v.Unknown) > 0 {
		return fmt.Errorf("this kernel gives it the properties %q, which Glis does not know; use a newer Glis", v.Unknown)
	}
	return nil
}
