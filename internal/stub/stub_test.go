package stub

import (
	"bytes"
	format "debug/elf"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
)

func TestELF(t *testing.T) {
	const at = 0x7654_3000
	b := elf(at, arch.StubCode())
	if len(b) != Size {
		t.Errorf("%d bytes, want one page", len(b))
	}
	f, err := format.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Class != format.ELFCLASS64 || f.Data != format.ELFDATA2LSB || f.Type != format.ET_EXEC || uint16(f.Machine) != arch.ELFMachine {
		t.Errorf("not an executable of this machine: %+v", f.FileHeader)
	}
	if f.Entry != at+codeOffset {
		t.Errorf("entry at %#x", f.Entry)
	}
	if len(f.Progs) != 2 || len(f.Sections) != 0 {
		t.Fatalf("%d segments and %d sections", len(f.Progs), len(f.Sections))
	}
	want := format.ProgHeader{Type: format.PT_LOAD, Flags: format.PF_R | format.PF_X, Vaddr: at, Paddr: at, Filesz: arch.PageSize, Memsz: arch.PageSize, Align: arch.PageSize}
	if got := f.Progs[0].ProgHeader; got != want {
		t.Errorf("code: got %+v, want %+v", got, want)
	}
	if got := f.Progs[1]; got.Type != format.PT_GNU_STACK || got.Flags != format.PF_R|format.PF_W {
		t.Errorf("stack: %+v", got.ProgHeader)
	}
	code, err := io.ReadAll(f.Progs[0].Open())
	if err != nil || !bytes.HasPrefix(code[codeOffset:], arch.StubCode()) {
		t.Errorf("the code is not where the entry is: %v", err)
	}
	if s := Syscall(at); s < at+codeOffset || uint64(s) >= at+codeOffset+uint64(len(arch.StubCode())) {
		t.Errorf("the system call instruction is at %#x, outside of the code", s)
	}
}

// born starts what a descriptor is of, with one descriptor.
func born(exe, socket int) (pid int, err error) {
	b, err := begin(exe, "glis", []int{socket}, 0, func(*Birth) {})
	if err != nil {
		return 0, err
	}
	return b.PID, b.Wait()
}

// A stub that nobody has seized yet does not outlive its maker.
func TestStubEndsWithItsMaker(t *testing.T) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := memfd(elf(0x7654_3000, arch.StubCode()), p[1])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(exe)
	pid, err := born(exe, p[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range p { // as the kernel does for a maker that dies
		unix.Close(n)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Exited() || ws.ExitStatus() != 0 {
		t.Errorf("wait status %#x, %v", ws, err)
	}
}

// A stub that ended by itself is reaped, and it is told how it ended.
func TestDiscardTellsOfTheEnd(t *testing.T) {
	for _, x := range []struct{ code, want string }{
		{string(arch.ExitCode(7)), "0x700"}, // by itself
		{string(arch.StubCode()), ""},       // by us
	} {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
		exe, err := memfd(elf(0x7654_3000, []byte(x.code)), p[1])
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(exe)
		pid, err := born(exe, p[1])
		if err != nil {
			t.Fatal(err)
		}
		if x.want != "" {
			if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := discard(pid); x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("want %q, got %v", x.want, err)
		}
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.ECHILD {
			t.Errorf("not reaped: %v", err)
		}
	}
}

// The executable is not overwritten by what is moved out of its way, even
// if its socket has a high number and all below are taken.
func TestStubAmongManyDescriptors(t *testing.T) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	for high := 60; high < 80; high++ {
		n, err := unix.FcntlInt(uintptr(p[1]), unix.F_DUPFD_CLOEXEC, high)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(n)
		exe, err := memfd(elf(0x7654_3000, arch.StubCode()), n)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := born(exe, n)
		unix.Close(exe)
		if err != nil {
			t.Fatalf("socket %d, executable %d: %v", n, exe, err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
			t.Error(err)
		}
	}
	unix.Close(p[1])
}
