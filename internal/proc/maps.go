package proc

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// VMA is one mapping of a task, see proc_pid_maps(5) and proc_pid_smaps(5).
type VMA struct {
	Start, End uint64 // addresses in the task, End exclusive
	Offset     uint64 // into the file, bytes
	Prot       int    // PROT_*
	Shared     bool   // MAP_SHARED
	DevMajor   uint32
	DevMinor   uint32
	Inode      uint64 // 0 if no file is mapped
	// Name is the file's path as the engine sees it, or a name in brackets:
	// [heap], [stack], [vdso], [anon:x]. The kernel writes a newline in a path
	// as \012 but leaves a backslash alone, so a path that holds the four
	// characters \012 comes out wrong: a link in map_files/ is exact.
	Name string
	// Deleted says that Name had " (deleted)" behind it. A living file may be
	// called so: fstat(2) tells. System V and anonymous shared memory always
	// have it.
	Deleted bool
	// Only Smaps fills in these.
	Flags   VmFlags
	Unknown []string // codes that VmFlags has no bit for
	Pkey    uint32   // memory protection key, 0 where there are none
}

// Len returns the size in bytes.
func (v *VMA) Len() uint64 { return v.End - v.Start }

// String is the mapping as maps writes it, for messages.
func (v *VMA) String() string {
	if v.Name == "" {
		return fmt.Sprintf("%x-%x", v.Start, v.End)
	}
	return fmt.Sprintf("%x-%x %s", v.Start, v.End, v.Name)
}

// MapFile returns the name of the mapping's link below /proc/PID.
func (v *VMA) MapFile() string { return fmt.Sprintf("map_files/%x-%x", v.Start, v.End) }

// Maps reads the mappings, ascending, without Flags: some 15 µs for a small
// process. A zombie and a kernel thread have none. See Until.
func (d *Dir) Maps() ([]VMA, error) { return d.vmas("maps", false) }

// Smaps reads the mappings with Flags. The kernel walks the page tables for
// it: milliseconds per GiB of small pages.
func (d *Dir) Smaps() ([]VMA, error) { return d.vmas("smaps", true) }

// vmas parses as it reads, because smaps of 10,000 mappings is 8 MB of which
// little is kept.
func (d *Dir) vmas(name string, flags bool) ([]VMA, error) {
	n, err := openat(d.fd, name, unix.O_RDONLY)
	if err != nil {
		return nil, d.fail("", name, err)
	}
	defer unix.Close(n)
	buf := d.take()
	defer func() { d.give(buf) }()
	r := vmaReader{file: name, flags: flags}
	for {
		if err := d.Ended(); err != nil {
			return nil, err
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		got, err := readSome(n, buf[len(buf):cap(buf)])
		if err != nil {
			return nil, d.fail("", name, err)
		}
		buf = buf[:len(buf)+got]
		used := r.consume(buf, got == 0)
		if r.err != nil {
			return nil, fmt.Errorf("%s/%w", d.path, r.err)
		}
		if got == 0 {
			return r.out, nil
		}
		buf = buf[:copy(buf, buf[used:])]
	}
}

// vmaReader takes maps or smaps in pieces.
type vmaReader struct {
	file  string
	flags bool // the text is smaps
	line  int
	out   []VMA
	err   error
}

func parseMaps(b []byte) ([]VMA, error)  { return parseVMAs("maps", b, false) }
func parseSmaps(b []byte) ([]VMA, error) { return parseVMAs("smaps", b, true) }

func parseVMAs(file string, b []byte, flags bool) ([]VMA, error) {
	r := vmaReader{file: file, flags: flags}
	r.consume(b, true)
	if r.err != nil {
		return nil, r.err
	}
	return r.out, nil
}

// consume takes the complete records at the start of b and returns their
// length. At the end of the file the last line needs no newline.
func (r *vmaReader) consume(b []byte, eof bool) int {
	used := 0
	for used < len(b) && r.err == nil {
		n, last := r.recordLen(b[used:], eof)
		if n == 0 {
			break
		}
		r.record(b[used:used+n], last)
		used += n
	}
	return used
}

// recordLen returns the length of the first record and where its last line
// begins; length 0 if more text is needed.
func (r *vmaReader) recordLen(b []byte, eof bool) (n, last int) {
	if r.flags {
		last = vmFlagsLine(b)
	}
	if last >= 0 {
		if i := bytes.IndexByte(b[last:], '\n'); i >= 0 {
			return last + i + 1, last
		}
	}
	if eof {
		return len(b), last
	}
	return 0, 0
}

const (
	flagsKey = "VmFlags:"
	pkeyKey  = "ProtectionKey:"
)

// vmFlagsLine finds the line that ends a record of smaps, or -1. A newline in
// a path is escaped, so that the key at the start of a line is the key.
func vmFlagsLine(b []byte) int {
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte(flagsKey))
		if i < 0 {
			return -1
		}
		from += i
		if from > 0 && b[from-1] == '\n' {
			return from
		}
		from += len(flagsKey)
	}
}

// record parses one mapping, whose last line begins at last.
func (r *vmaReader) record(b []byte, last int) {
	line, _ := cutLine(b)
	t := text{b: line, file: r.file, line: r.line + 1}
	r.line += bytes.Count(b, []byte{'\n'})
	var v VMA
	name := v.header(&t)
	if t.err == nil {
		v.setName(name, r.out)
		if r.flags {
			t = text{b: b, file: r.file, line: r.line}
			v.tail(&t, last)
		}
	}
	r.err = t.err
	if len(r.out) == cap(r.out) {
		r.out = slices.Grow(r.out, max(64, len(r.out))) // append would copy 10,000 of them a dozen times
	}
	r.out = append(r.out, v)
}

// header reads the line that maps and smaps share, and returns the name.
func (v *VMA) header(t *text) []byte {
	v.Start = t.hex("a hexadecimal address")
	t.lit("-")
	v.End = t.hex("a hexadecimal address")
	if t.err == nil && v.End <= v.Start {
		t.fail("an end above the start")
	}
	t.lit(" ")
	v.prot(t)
	v.Offset = t.hex("a hexadecimal offset")
	t.lit(" ")
	v.DevMajor = t.hex32("a major device number")
	t.lit(":")
	v.DevMinor = t.hex32("a minor device number")
	t.lit(" ")
	v.Inode = t.dec("an inode number")
	t.blanks()
	return t.rest()
}

// prot reads the five characters "rwxp ".
func (v *VMA) prot(t *text) {
	const letters = "rwx"
	if len(t.b) < 5 || t.b[4] != ' ' || (t.b[3] != 'p' && t.b[3] != 's') {
		t.fail("permissions like r-xp")
		return
	}
	for i, bit := range [...]int{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		switch t.b[i] {
		case letters[i]:
			v.Prot |= bit
		case '-':
		default:
			t.fail("permissions like r-xp")
			return
		}
	}
	v.Shared = t.b[3] == 's'
	t.b = t.b[5:]
}

// setName sets Name and Deleted. Neighbours often map the same file: they
// share the string.
func (v *VMA) setName(name []byte, before []VMA) {
	if len(name) == 0 {
		return
	}
	if name[0] != '[' {
		name, v.Deleted = bytes.CutSuffix(name, []byte(" (deleted)"))
	}
	if n := len(before); n > 0 && before[n-1].Name == string(name) {
		v.Name = before[n-1].Name
		return
	}
	v.Name = unescapeNewlines(name)
}

// unescapeNewlines turns \012 into the newline it stands for.
func unescapeNewlines(name []byte) string {
	if bytes.IndexByte(name, '\\') < 0 {
		return string(name)
	}
	return string(bytes.ReplaceAll(name, []byte(`\012`), []byte("\n")))
}

// tail reads the last lines of a record of smaps: the protection key, if any,
// and the flags.
func (v *VMA) tail(t *text, last int) {
	if last <= 0 {
		t.b = nil
		t.fail("a line " + flagsKey)
		return
	}
	before := t.b[:last-1]
	before = before[bytes.LastIndexByte(before, '\n')+1:]
	flags, _ := cutLine(t.b[last+len(flagsKey):])
	if t.b = before; t.has(pkeyKey) {
		t.blanks()
		v.Pkey = t.dec32("a protection key")
		t.end()
	}
	if t.err != nil {
		return
	}
	t.b = flags
	for t.blanks(); len(t.b) > 0; {
		v.addFlag(t.word("a code"))
	}
}

func (v *VMA) addFlag(code []byte) {
	if f := flagOf(code); f != 0 {
		v.Flags |= f
		return
	}
	v.Unknown = append(v.Unknown, string(code))
}
