package guardian

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// The journal is a file in memory that the engine appends to and the guardian
// reads when the engine has died. Nobody is woken by a record, and what is
// written is there whatever becomes of the writer. A record is its kind, the
// length of what follows in two bytes, and that.

// Phase is how far the work has come.
type Phase byte

// Of a dump, the phases are Begun, Committed or Thawed, Done; of a restore,
// Begun, Released, Done.
const (
	Begun     Phase = iota
	Thawed          // the tree runs as before, but the images are not complete
	Committed       // the images are complete: nothing of the tree may live on
	Released        // the restored tree is to live
	Done            // nothing is left to do
)

const (
	recordPhase  = 'p'
	recordTask   = 't'
	recordOption = 'o'
	recordKept   = 'k'
	recordBrake  = 'b' // a process is braked, see tracee.Brake
	recordMasked = 'm' // the same, and which signals its first thread blocks, see tracee.Unmask
	recordLoose  = 'l' // none is any more
	recordArena  = 'a'
	recordName   = 'n'
	recordShm    = 's'
	recordCgroup = 'c'
	recordFrozen = 'f'
)

// recordHead is how long kind and length are.
const recordHead = 3

// name is a name of a file that is taken away again if a dump is taken back,
// unless another file has it.
type name struct {
	dev, ino uint64
	path     string
}

// shm is System V shared memory that is removed if a restore is taken back,
// unless another process than the engine has made it.
type shm struct{ id, creator int32 }

// Task is a process of the tree and, for a dump, when it was started, in clock
// ticks since boot (proc_pid_stat(5)): another one under its number is left
// alone.
type Task struct {
	PID   proc.PID
	Start uint64
}

// Option is what a socket of a task, or one that was Lent, gets, unless another
// file is under that descriptor by then.
type Option struct {
	PID   proc.PID
	FD    int32
	Inode uint64
	linux.SockOpt
}

// journal is the writing end.
type journal struct {
	mu   sync.Mutex
	file *fd.FD
	at   int64
	buf  []byte
}

func newJournal() (*journal, error) {
	n, err := unix.MemfdCreate("glis-journal", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return &journal{file: fd.New(n)}, nil
}

// put appends a record; all of it or, with an error, nothing that counts.
func (j *journal) put(kind byte, body func([]byte) []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := body(append(j.buf[:0], kind, 0, 0))
	j.buf = b
	if len(b)-recordHead > 1<<16-1 {
		return fmt.Errorf("a record of %d bytes for the guardian", len(b))
	}
	le.PutUint16(b[1:], uint16(len(b)-recordHead))
	return j.store(b)
}

// write appends records that are whole.
func (j *journal) write(records func([]byte) []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = records(j.buf[:0])
	return j.store(j.buf)
}

func (j *journal) store(b []byte) error {
	n, err := unix.Pwrite(j.file.Int(), b, j.at)
	if err == nil && n < len(b) {
		err = unix.ENOSPC
	}
	if err != nil {
		// Nothing of it may be taken for what comes later.
		return errors.Join(fmt.Errorf("write to the guardian's journal: %w", err), unix.Ftruncate(j.file.Int(), j.at))
	}
	j.at += int64(n)
	return nil
}

var le = binary.LittleEndian

func (t Task) append(b []byte) []byte {
	return le.AppendUint64(le.AppendUint32(b, uint32(t.PID)), t.Start)
}

func (o *Option) append(b []byte) []byte {
	b = le.AppendUint32(b, uint32(o.PID))
	b = le.AppendUint32(b, uint32(o.FD))
	b = le.AppendUint64(b, o.Inode)
	for _, v := range []int{o.Level, o.Name, o.Value} {
		b = le.AppendUint32(b, uint32(int32(v)))
	}
	return b
}

// Sizes of the bodies of records.
const (
	taskSize   = 12
	optionSize = 28
	arenaSize  = 20
	maskedSize = 12
	nameHead   = 16
)

// story is what a journal tells.
type story struct {
	phase   Phase
	tasks   []Task
	options []Option
	kept    string // the table that holds packets back
	braked  []proc.PID
	masks   map[proc.PID]uint64 // of those of them that may have lost theirs
	arenas  map[proc.PID][]area
	names   []name
	shms    []shm
	cgroups []made
	frozen  frozen
}

// area is memory of the engine's that may be in a process.
type area struct{ base, size uint64 }

// readStory reads a journal. What makes no sense ends it: only a record that
// was not finished can, and it does not count.
func readStory(b []byte) story {
	var s story
	for len(b) >= recordHead && len(b) >= recordHead+int(le.Uint16(b[1:])) {
		kind, body := b[0], b[recordHead:recordHead+int(le.Uint16(b[1:]))]
		if !s.take(kind, body) {
			break
		}
		b = b[recordHead+len(body):]
	}
	return s
}

func (s *story) take(kind byte, body []byte) bool {
	switch {
	case kind == recordPhase && len(body) == 1 && body[0] <= byte(Done):
		s.phase = Phase(body[0])
	case kind == recordTask && len(body) == taskSize:
		s.tasks = append(s.tasks, Task{proc.PID(le.Uint32(body)), le.Uint64(body[4:])})
	case kind == recordOption && len(body) == optionSize:
		word := func(i int) int { return int(int32(le.Uint32(body[16+4*i:]))) }
		s.options = append(s.options, Option{
			PID: proc.PID(le.Uint32(body)), FD: int32(le.Uint32(body[4:])), Inode: le.Uint64(body[8:]),
			SockOpt: linux.SockOpt{Level: word(0), Name: word(1), Value: word(2)},
		})
	case kind == recordBrake && len(body) == 4:
		s.braked = append(s.braked, proc.PID(le.Uint32(body)))
	case kind == recordMasked && len(body) == maskedSize:
		pid := proc.PID(le.Uint32(body))
		s.braked = append(s.braked, pid)
		if s.masks == nil {
			s.masks = map[proc.PID]uint64{}
		}
		s.masks[pid] = le.Uint64(body[4:])
	case kind == recordArena && len(body) == arenaSize:
		if s.arenas == nil {
			s.arenas = map[proc.PID][]area{}
		}
		pid := proc.PID(le.Uint32(body))
		s.arenas[pid] = append(s.arenas[pid], area{le.Uint64(body[4:]), le.Uint64(body[12:])})
	case kind == recordName && len(body) > nameHead:
		s.names = append(s.names, name{le.Uint64(body), le.Uint64(body[8:]), string(body[nameHead:])})
	case kind == recordShm && len(body) == 8:
		s.shms = append(s.shms, shm{int32(le.Uint32(body)), int32(le.Uint32(body[4:]))})
	case kind == recordCgroup:
		m, ok := readMade(body)
		if !ok {
			return false
		}
		s.cgroups = append(s.cgroups, m)
	case kind == recordFrozen && len(body) > 1:
		s.frozen = frozen{string(body[1:]), body[0] != 0}
	case kind == recordLoose:
		s.braked, s.masks = nil, nil
	case kind == recordKept:
		s.kept = string(body)
	default:
		return false
	}
	return true
}

// readJournal reads the whole file.
func readJournal(file int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return nil, err
	}
	b := make([]byte, st.Size)
	for at := 0; at < len(b); {
		n, err := unix.Pread(file, b[at:], int64(at))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return b[:at], nil
		}
		at += n
	}
	return b, nil
}
