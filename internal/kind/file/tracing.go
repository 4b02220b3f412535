package file

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// Most files of tracefs keep nothing for who has them open but a position. These do, see the
// kernel's Documentation/trace/ftrace.rst and kernel/trace/trace.c:
//
//   - trace_pipe takes what is traced out of the kernel's buffer, and keeps what a read had no
//     room for. Only the kernel's memory tells whether there is any;
//   - trace_pipe_raw and snapshot_raw keep the page that they are at;
//   - what is written to a filter (set_ftrace_filter and others) counts when it is closed, half
//     a word at the next write;
//   - to close free_buffer empties the buffer.

// traceNames are the members of the kernel's structures that tell what trace_pipe keeps.
var traceNames = []string{"?trace_iterator", "?trace_iterator.seq", "?trace_seq", "?trace_seq.seq", "?trace_seq.readpos", "?seq_buf", "?seq_buf.len"}

// traced tells what a file keeps, by its name, if it is one of tracefs; "": nothing.
func traced(name string, flags uint32) string {
	base, mode := path.Base(name), access(flags)
	switch {
	case flags&unix.O_PATH != 0:
	case base == "trace_pipe" && mode != unix.O_WRONLY:
		return "what a read had no room for"
	case (base == "trace_pipe_raw" || base == "snapshot_raw") && mode != unix.O_WRONLY:
		return "the page that it is read from"
	case base == "free_buffer":
		return "the kernel's buffer, which is emptied when it is closed"
	case strings.HasPrefix(base, "set_") && mode != unix.O_RDONLY:
		return "what was written to it, until it is closed"
	}
	return ""
}

// noTracing refuses a file of tracefs that keeps something for who has it open.
func (k *Regular) noTracing(f *scan.File) error {
	keeps := traced(f.Link, f.Flags)
	if keeps == "" {
		return nil
	}
	d, err := f.Borrow()
	if err != nil {
		return err
	}
	defer d.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.Int(), &st); err != nil {
		return fmt.Errorf("%v: which file system is it on? fstatfs: %w", f, err)
	}
	if st.Type != unix.TRACEFS_MAGIC {
		return nil
	}
	if path.Base(f.Link) == "trace_pipe" {
		if k.tracing == nil {
			k.tracing = kmem.Share(traceNames...)
		}
		rest, err := restOfTrace(k.tracing, d)
		if err == nil && rest == 0 {
			return nil
		}
		if keeps = fmt.Sprintf("%s (%d bytes)", keeps, rest); err != nil {
			keeps = fmt.Sprintf("perhaps what a read had no room for, which isn't known (%v)", err)
		}
	}
	return kind.Unsupported(f, "a file of tracefs, it keeps %s, which would be lost; close it", keeps)
}

// restOfTrace returns how many bytes a reader of trace_pipe has waiting.
func restOfTrace(memory *kmem.Shared, d *fd.FD) (uint64, error) {
	r, err := memory.Reader()
	if err != nil {
		return 0, err
	}
	for _, n := range traceNames {
		if !r.Has(n[1:]) {
			return 0, fmt.Errorf("the kernel has no %s", n[1:])
		}
	}
	at, err := r.PrivateOf(d.Int())
	if err != nil {
		return 0, err
	}
	at += r.Off("trace_iterator.seq")
	read, err := r.Pointer(at + r.Off("trace_seq.readpos"))
	if err != nil {
		return 0, err
	}
	n, err := r.Pointer(at + r.Off("trace_seq.seq") + r.Off("seq_buf.len"))
	return uint64(n - min(n, read)), err
}
