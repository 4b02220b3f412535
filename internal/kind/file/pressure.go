package file

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// Who opens a file of pressure (PSI), /proc/pressure/cpu or memory.pressure of a cgroup,
// may write to it of how much of it poll(2) is to tell: see the kernel's
// Documentation/accounting/psi.rst. Only the kernel's memory tells whether that was done.

// pressureNames are the members of the kernel's structures that tell it.
var pressureNames = []string{
	"seq_file.private", "?kernfs_open_file.priv", "?cgroup_file_ctx.psi",
	"?psi_trigger", "?psi_trigger.state", "?psi_trigger.threshold", "?psi_trigger.win", "?psi_window", "?psi_window.size",
}

// pressed tells whether a path may be of such a file, on one of these file systems.
func pressed(name string) (of int64, ok bool) {
	if dir, base := path.Split(name); strings.HasSuffix(dir, "/pressure/") {
		switch base {
		case "cpu", "memory", "io", "irq":
			return unix.PROC_SUPER_MAGIC, true
		}
	}
	return unix.CGROUP2_SUPER_MAGIC, strings.HasSuffix(name, ".pressure")
}

// pressureFile tells whether a path and the file that it has led to are such a one.
func pressureFile(name string, d *fd.FD) (bool, error) {
	of, ok := pressed(name)
	if !ok {
		return false, nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.Int(), &st); err != nil {
		return false, fmt.Errorf("which file system is it on? fstatfs: %w", err)
	}
	return st.Type == of, nil
}

// dumpTrigger notes what was written to a file of pressure.
func (k *Regular) dumpTrigger(f *scan.File, e *regfile.RegFileEntry) error {
	if _, ok := pressed(f.Link); !ok || f.Flags&unix.O_PATH != 0 || access(f.Flags) == unix.O_RDONLY {
		return nil
	}
	d, err := f.Borrow()
	if err != nil {
		return err
	}
	defer d.Close()
	if ok, err := pressureFile(f.Link, d); !ok {
		return err
	}
	if k.pressure == nil {
		k.pressure = kmem.Share(pressureNames...)
	}
	text, err := readTrigger(k.pressure, f.Link, d)
	if err != nil {
		return kind.Unsupported(f, "it is a file of pressure (PSI) that is open for writing, and nobody tells what was written to it: %v; close it, or open it for reading", err)
	}
	if text != "" {
		putBytes(e, regPressure, []byte(text))
	}
	return nil
}

// readTrigger returns what was written to a file of pressure, nothing if nothing was.
func readTrigger(memory *kmem.Shared, name string, d *fd.FD) (string, error) {
	r, err := memory.Reader()
	if err != nil {
		return "", err
	}
	for _, n := range pressureNames[1:] {
		if !r.Has(n[1:]) {
			return "", fmt.Errorf("the kernel has no %s", n[1:])
		}
	}
	at, err := r.PrivateOf(d.Int())
	steps := []string{"seq_file.private"}
	if of, _ := pressed(name); of == unix.CGROUP2_SUPER_MAGIC {
		steps = append(steps, "kernfs_open_file.priv", "cgroup_file_ctx.psi")
	}
	for _, s := range steps {
		if err == nil {
			at, err = r.Pointer(at + r.Off(s))
		}
	}
	if err != nil || at == 0 {
		return "", err
	}
	t, err := r.Struct("psi_trigger", at)
	if err != nil {
		return "", err
	}
	window, err := r.Pointer(at + r.Off("psi_trigger.win") + r.Off("psi_window.size"))
	if err != nil {
		return "", err
	}
	threshold, err := r.Pointer(at + r.Off("psi_trigger.threshold"))
	text := trigger(t.U32("psi_trigger.state"), uint64(threshold), uint64(window))
	if err == nil && !triggers.MatchString(text) {
		err = fmt.Errorf("%q makes no sense", text)
	}
	return text, err
}

// trigger is what is written for a state (enum psi_states: some and full of each resource
// in turn, but for interrupts, which only have full), and times in ns.
func trigger(state uint32, threshold, window uint64) string {
	const irqFull, microsecond = 6, 1000
	word := "some"
	if state%2 == 1 || state == irqFull {
		word = "full"
	}
	return fmt.Sprintf("%s %d %d", word, threshold/microsecond, window/microsecond)
}

var triggers = regexp.MustCompile(`^(some|full) [1-9][0-9]{0,7} [1-9][0-9]{0,7}$`)

// readPressure reads from an entry what is to be written to a file of pressure.
func readPressure(e *regfile.RegFileEntry) (string, error) {
	_, b, ok := extra(e, regPressure)
	if !ok {
		return "", nil
	}
	if _, may := pressed(e.GetName()); !may || !triggers.Match(b) || access(e.GetFlags()) == unix.O_RDONLY || e.GetFlags()&unix.O_PATH != 0 {
		return "", fmt.Errorf("%s is no file of pressure that %.40q was written to", e.GetName(), b)
	}
	return string(b), nil
}

// press writes to a file of pressure what was written to it. The position is set
// afterwards.
func (n *regularNode) press(d *fd.FD) error {
	pressure := n.has().pressure
	if pressure == "" {
		return nil
	}
	if ok, err := pressureFile(n.name, d); !ok {
		return errors.Join(err, errors.New("it is no file of pressure (PSI) any more"))
	}
	// The kernel has the last byte be 0.
	if _, err := unix.Write(d.Int(), append([]byte(pressure), 0)); err != nil {
		return fmt.Errorf("ask to be told of pressure (%s; without CAP_SYS_RESOURCE in windows of a multiple of 2 s only): %w", pressure, err)
	}
	_, err := unix.Seek(d.Int(), 0, unix.SEEK_SET)
	return err
}
