package proc

import (
	"fmt"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// PID is a process number in the PID namespace of the engine (which is that of
// its /proc).
type PID int32

// TID is a thread number in the PID namespace of the engine.
type TID int32

const (
	firstBuffer = 16 << 10 // holds most files; the kernel gives ≤ 4 KiB of maps per read
	keptBuffer  = 64 << 10 // larger ones are not kept between reads
	longFile    = 1 << 20  // is more than is read to let a task go: a status with many groups is shorter
	mostBytes   = 1 << 30  // no file of /proc/PID is that large
)

// Dir is an open /proc/PID. Its methods may be used by several goroutines.
type Dir struct {
	fd      int
	pid     PID
	path    string
	scratch *Scratch
	ended   func() error // nil: there is time
}

// Scratch is memory that files are read into. Many Dirs can have one together:
// each of them needs some only while it reads.
type Scratch struct {
	spare [4]atomic.Pointer[[]byte] // more read at a time seldom
}

// Open opens /proc/PID. If there is no such process, the error is ErrGone.
func Open(pid PID) (*Dir, error) { return new(Scratch).Open(pid) }

// Open is Open of a Dir that reads with this memory.
func (s *Scratch) Open(pid PID) (*Dir, error) {
	path := "/proc/" + strconv.Itoa(int(pid))
	n, err := openat(unix.AT_FDCWD, path, unix.O_DIRECTORY)
	switch err {
	case nil:
		return &Dir{fd: n, pid: pid, path: path, scratch: s}, nil
	case unix.ENOENT, unix.ESRCH:
		return nil, fmt.Errorf("open %s: %w: %w", path, ErrGone, err)
	}
	return nil, fmt.Errorf("open %s: %w", path, err)
}

// Close closes the directory; a second Close does nothing. It must not run
// beside any other method.
func (d *Dir) Close() error {
	if d.fd < 0 {
		return nil
	}
	err := unix.Close(d.fd)
	d.fd = -1
	if err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}

// Until has what takes long with a large process, as reading its mappings, end
// early when ended returns an error, which is then returned. It is called often,
// by several goroutines. Until must be called before they use the Dir.
func (d *Dir) Until(ended func() error) { d.ended = ended }

// Ended returns why nobody wants to know more, see Until; nil if that is not so.
func (d *Dir) Ended() error {
	if d.ended == nil {
		return nil
	}
	return d.ended()
}

// Fd returns the directory's descriptor, for openat(2) and its kin. It stays
// the Dir's own.
func (d *Dir) Fd() int { return d.fd }

// PID returns the number the directory was opened by.
func (d *Dir) PID() PID { return d.pid }

// Path returns "/proc/PID", for messages.
func (d *Dir) Path() string { return d.path }

// ReadFile returns the contents of a file below /proc/PID, for example
// "environ" or "task/7/comm". The bytes are the caller's.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	var out []byte
	err := d.read("", name, func(b []byte) error {
		out = append(make([]byte, 0, len(b)), b...)
		return nil
	})
	return out, err
}

// Link returns what a link below /proc/PID says: "exe", "cwd", "root", "fd/3",
// "ns/net", "map_files/START-END". See proc_pid_exe(5) and its kin.
func (d *Dir) Link(name string) (string, error) { return d.link("", name) }

func (d *Dir) link(prefix, name string) (string, error) {
	var small [256]byte
	b := small[:]
	for {
		n, err := unix.Readlinkat(d.fd, prefix+name, b)
		if err != nil {
			return "", d.fail(prefix, name, err)
		}
		if n < len(b) {
			return string(b[:n]), nil
		}
		// A full buffer may be a cut name. The kernel itself stops at PATH_MAX.
		b = make([]byte, 8<<10)
	}
}

// Open opens a file below /proc/PID. O_CLOEXEC is added. The descriptor is the
// caller's.
func (d *Dir) Open(name string, flags int) (int, error) {
	n, err := openat(d.fd, name, flags)
	if err != nil {
		return -1, d.fail("", name, err)
	}
	return n, nil
}

// read gives the contents of a file to use, which must not keep them.
func (d *Dir) read(prefix, name string, use func([]byte) error) error {
	n, err := openat(d.fd, prefix+name, unix.O_RDONLY)
	if err != nil {
		return d.fail(prefix, name, err)
	}
	buf := d.take()
	buf, err = d.readAll(n, buf)
	unix.Close(n)
	if err != nil {
		d.give(buf)
		return d.fail(prefix, name, err)
	}
	if err = use(buf); err != nil {
		err = fmt.Errorf("%s/%s%w", d.path, prefix, err)
	}
	d.give(buf)
	return err
}

// take lends a buffer, empty. Two goroutines get two of them.
func (d *Dir) take() []byte {
	for i := range d.scratch.spare {
		if b := d.scratch.spare[i].Swap(nil); b != nil {
			return (*b)[:0]
		}
	}
	return make([]byte, 0, firstBuffer)
}

func (d *Dir) give(b []byte) {
	if cap(b) > keptBuffer {
		return
	}
	for i := range d.scratch.spare {
		if d.scratch.spare[i].CompareAndSwap(nil, &b) {
			return
		}
	}
}

// readAll appends the rest of a file to b. Only of what is long it is asked whether anybody
// wants to know more: what is short is also read to let a task go.
func (d *Dir) readAll(fd int, b []byte) ([]byte, error) {
	for {
		if len(b) > longFile {
			if err := d.Ended(); err != nil {
				return b, err
			}
		}
		if len(b) == cap(b) {
			if cap(b) >= mostBytes {
				return b, unix.EFBIG
			}
			b = append(make([]byte, 0, 2*cap(b)), b...)
		}
		n, err := readSome(fd, b[len(b):cap(b)])
		if err != nil || n == 0 {
			return b, err
		}
		b = b[:len(b)+n]
	}
}

func readSome(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		n, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}
