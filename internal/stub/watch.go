package stub

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
)

// Watch says what a process does that waits for the end of another one and
// needs no more than a page for it.
type Watch struct {
	Files []int // its descriptors, from 0 on
	Line  int   // which of them is the socket that it waits on
	Exe   int   // which of them is executed when the other end is closed
	Argv  []string
	Env   []string
}

// watchAt is where its page is, below 4 GiB as its code has it.
const watchAt = 0x400000

// Begin begins the process, in a session of its own, so that what ends the
// terminal or the group of its maker does not end it. It ends when a byte
// comes. When this returns, nothing that happens to the maker keeps it from
// its work.
func (w *Watch) Begin() (*Birth, error) {
	page, err := w.page()
	if err != nil {
		return nil, err
	}
	exe, err := memfd(page, max(slices.Max(w.Files), len(w.Files)-1))
	if err != nil {
		return nil, err
	}
	defer unix.Close(exe)
	return begin(exe, w.Argv[0], w.Files, 0, func(b *Birth) {
		b.call(unix.SYS_SETSID, 0, 0, 0)
		b.call(unix.SYS_CHDIR, b.text("/"), 0, 0)
	})
}

// blocked are the signals that are not to end it: those that services and
// terminals send to everybody.
func blocked() uint64 {
	var mask uint64
	for _, s := range []unix.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU,
	} {
		mask |= 1 << (s - 1)
	}
	return mask
}

// page lays out what the process executes and what that refers to.
func (w *Watch) page() ([]byte, error) {
	code := func(mask, path, argv, envp uint32) []byte {
		return arch.WatchCode(byte(w.Line), mask, path, argv, envp)
	}
	d := &data{at: watchAt + codeOffset + uint32(len(code(0, 0, 0, 0))+7)&^7}
	mask := d.words(blocked())
	path := d.text(fmt.Sprintf("/proc/self/fd/%d", w.Exe))
	argv, envp := d.list(w.Argv), d.list(w.Env)
	all := append(code(mask, path, argv, envp), make([]byte, 8)...)
	all = append(all[:d.at-watchAt-codeOffset], d.b...)
	if len(all) > Size-codeOffset {
		return nil, fmt.Errorf("%d bytes are too much for one page", len(all))
	}
	return elf(watchAt, all), nil
}

// data is what stands behind the code.
type data struct {
	at uint32 // address of its first byte
	b  []byte
}

func (d *data) here() uint32 { return d.at + uint32(len(d.b)) }

func (d *data) words(v ...uint64) uint32 {
	at := d.here()
	for _, x := range v {
		d.b = binary.LittleEndian.AppendUint64(d.b, x)
	}
	return at
}

// text puts a string with its NUL, and as many more as end at a whole word.
func (d *data) text(s string) uint32 {
	at := d.here()
	d.b = append(d.b, s...)
	d.b = append(d.b, make([]byte, 8-len(d.b)%8)...)
	return at
}

// list puts an array of strings as execve(2) takes it.
func (d *data) list(all []string) uint32 {
	var at []uint64
	for _, s := range all {
		at = append(at, uint64(d.text(s)))
	}
	return d.words(append(at, 0)...)
}
