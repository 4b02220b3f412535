package sockmem

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// Piece is a piece of the kernel's memory.
type Piece struct {
	At  uint64
	Len int // bytes, at most MaxPiece
}

// MaxPiece is the length of the longest Piece, in bytes.
const MaxPiece = 4096

// atOnce is how many pieces are read in one go, and maxReply how many bytes:
// the kernel has 8 pages for what a program writes in one call.
const (
	atOnce   = 32
	maxReply = 7 * 4096
)

// A request: u64 address, u64 length (0: nothing). A reply: u64 number of the
// request, s64 status (0: all was read), and the bytes.
const (
	requestSize = 16
	replyHead   = 16
)

// Memory reads the kernel's memory wherever it is asked to, by a BPF iterator
// that answers requests in a map (Linux 6.1). It is not for use by several goroutines
// at once.
type Memory struct {
	types    *layouts
	requests int // map
	scratch  int // map
	reader   int // program
	lister   int // program
	pages    *pageMap
}

// OpenMemory loads the programs. Where the kernel or the engine's privileges
// don't allow it, it fails with ErrUnavailable.
func OpenMemory() (m *Memory, err error) {
	t, err := kernelTypes()
	if err != nil {
		return nil, err
	}
	m = &Memory{types: t, requests: -1, scratch: -1, reader: -1, lister: -1}
	if err := m.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnavailable, err), m.Close())
	}
	return m, nil
}

func (m *Memory) load() (err error) {
	if m.requests, err = linux.BPFArray(requestSize * atOnce); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_CREATE): %w", err)
	}
	if m.scratch, err = linux.BPFArray(replyHead + MaxPiece); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_CREATE): %w", err)
	}
	if m.reader, err = linux.BPFLoadIterator(readProgram(m.requests, m.scratch), bpf.License, m.types.thread); err != nil {
		return fmt.Errorf("bpf(BPF_PROG_LOAD): %w", err)
	}
	if m.lister, err = linux.BPFLoadIterator(listProgram(m.scratch), bpf.License, m.types.taskFile); err != nil {
		return fmt.Errorf("bpf(BPF_PROG_LOAD): %w", err)
	}
	return nil
}

// Close unloads the programs.
func (m *Memory) Close() error {
	var errs []error
	for _, n := range []*int{&m.requests, &m.scratch, &m.reader, &m.lister} {
		if *n >= 0 {
			errs = append(errs, unix.Close(*n))
			*n = -1
		}
	}
	return errors.Join(errs...)
}

// readProgram answers all requests, in order.
//
//	r6 context, r7 requests, r8 length, r9 reply
func readProgram(requests, scratch int) []bpf.Insn {
	const ctxThread = 8 // struct bpf_iter__task
	out := []bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load64, 7, 6, ctxThread, 0),
		bpf.In(bpf.JumpEq, 7, 0, 0, 0), // the last call is about nobody
		bpf.In(bpf.Imm64, 7, bpf.PseudoMapValue, 0, requests), bpf.In(0, 0, 0, 0, 0),
		bpf.In(bpf.Imm64, 9, bpf.PseudoMapValue, 0, scratch), bpf.In(0, 0, 0, 0, 0),
	}
	for i := range atOnce {
		out = append(out,
			bpf.In(bpf.Load64, 8, 7, i*requestSize+8, 0),
			bpf.In(bpf.JumpEq, 8, 0, 0, 0), // there are no more
			bpf.In(bpf.JumpGt, 8, 0, 0, MaxPiece),
			bpf.In(bpf.MoveImm, 1, 0, 0, i),
			bpf.In(bpf.Store64, 9, 1, 0, 0),
			// probe_read_kernel(reply + 16, length, request.at)
			bpf.In(bpf.Move, 1, 9, 0, 0), bpf.In(bpf.AddImm, 1, 0, 0, replyHead),
			bpf.In(bpf.Move, 2, 8, 0, 0),
			bpf.In(bpf.Load64, 3, 7, i*requestSize, 0),
			bpf.In(bpf.Call, 0, 0, 0, bpf.ProbeReadKernel),
			bpf.In(bpf.Store64, 9, 0, 8, 0),
			// seq_write(meta->seq, reply, 16 + length)
			bpf.In(bpf.Load64, 1, 6, bpf.CtxMeta, 0),
			bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
			bpf.In(bpf.Move, 2, 9, 0, 0),
			bpf.In(bpf.Move, 3, 8, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, replyHead),
			bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite))
	}
	return bpf.Finish(out)
}

// listProgram writes, for every descriptor of a task, u64 number and u64
// address of its struct file.
//
//	r6 context, r9 record
func listProgram(scratch int) []bpf.Insn {
	return bpf.Finish([]bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load64, 7, 6, ctxFile, 0),
		bpf.In(bpf.JumpEq, 7, 0, 0, 0),
		bpf.In(bpf.Imm64, 9, bpf.PseudoMapValue, 0, scratch), bpf.In(0, 0, 0, 0, 0),
		bpf.In(bpf.Load32, 1, 6, ctxFD, 0),
		bpf.In(bpf.Store64, 9, 1, 0, 0),
		bpf.In(bpf.Store64, 9, 7, 8, 0),
		bpf.In(bpf.Load64, 1, 6, bpf.CtxMeta, 0),
		bpf.In(bpf.Load64, 1, 1, bpf.MetaSeq, 0),
		bpf.In(bpf.Move, 2, 9, 0, 0),
		bpf.In(bpf.MoveImm, 3, 0, 0, 16),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SeqWrite),
	})
}

// Files returns where the kernel has the open files of the process behind a
// pidfd, by descriptor.
func (m *Memory) Files(pidfd int) (map[int32]uint64, error) {
	it, err := linux.BPFTaskIterator(m.lister, pidfd)
	if err != nil {
		return nil, fmt.Errorf("%w: bpf iterator over a process's files: %w", ErrUnavailable, err)
	}
	b, err := readAll(it)
	if err != nil {
		return nil, err
	}
	out := map[int32]uint64{}
	for ; len(b) >= 16; b = b[16:] {
		out[int32(binary.NativeEndian.Uint32(b))] = binary.NativeEndian.Uint64(b[8:])
	}
	return out, nil
}

// readAll reads and closes an iterator.
func readAll(it int) ([]byte, error) {
	defer unix.Close(it)
	var out []byte
	err := bpf.Drain(it, func(b []byte) (int, error) {
		out = append(out, b...)
		return 0, nil
	})
	return out, err
}

// tryAll reads pieces; what can't be read is nil.
func (m *Memory) tryAll(pieces ...Piece) ([][]byte, error) {
	var out [][]byte
	for len(pieces) > 0 {
		n := 0
		for sum := 0; n < min(len(pieces), atOnce) && sum+pieces[n].Len+replyHead <= maxReply; n++ {
			sum += pieces[n].Len + replyHead
		}
		some, err := m.try(pieces[:n])
		if err != nil {
			return nil, err
		}
		out, pieces = append(out, some...), pieces[n:]
	}
	return out, nil
}

func (m *Memory) try(pieces []Piece) ([][]byte, error) {
	var all [atOnce * requestSize]byte
	for i, p := range pieces {
		binary.NativeEndian.PutUint64(all[i*requestSize:], p.At)
		binary.NativeEndian.PutUint64(all[i*requestSize+8:], uint64(p.Len))
	}
	if err := linux.BPFUpdate(m.requests, 0, all[:]); err != nil {
		return nil, fmt.Errorf("bpf(BPF_MAP_UPDATE_ELEM): %w", err)
	}
	it, err := linux.BPFThreadIterator(m.reader, unix.Getpid())
	if err != nil {
		return nil, fmt.Errorf("%w: bpf iterator over a thread: %w", ErrUnavailable, err)
	}
	b, err := readAll(it)
	if err != nil {
		return nil, err
	}
	return replies(b, pieces)
}

func replies(b []byte, pieces []Piece) ([][]byte, error) {
	out := make([][]byte, len(pieces))
	for len(b) >= replyHead {
		i, status := binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint64(b[8:])
		if i >= uint64(len(pieces)) || len(b) < replyHead+pieces[i].Len {
			return nil, fmt.Errorf("a bpf iterator gave %d bytes as answer %d", len(b), i)
		}
		if status == 0 {
			out[i] = b[replyHead : replyHead+pieces[i].Len]
		}
		b = b[replyHead+pieces[i].Len:]
	}
	return out, nil
}

// errGone says that memory isn't what it was taken for: somebody has changed
// it meanwhile.
var errGone = errors.New("the kernel's memory has changed while it was read")

// Read reads pieces, all of them, of any length.
func (m *Memory) Read(pieces ...Piece) ([][]byte, error) {
	var parts []Piece
	for _, s := range pieces {
		for at := 0; at < s.Len; at += MaxPiece {
			parts = append(parts, Piece{s.At + uint64(at), min(s.Len-at, MaxPiece)})
		}
	}
	got, err := m.tryAll(parts...)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(pieces))
	for i, s := range pieces {
		for at := 0; at < s.Len; at += MaxPiece {
			if got[0] == nil {
				return nil, fmt.Errorf("%w: %d bytes at %#x", errGone, s.Len, s.At)
			}
			out[i], got = append(out[i], got[0]...), got[1:]
		}
	}
	return out, nil
}

func (m *Memory) one(at uint64, n int) ([]byte, error) {
	b, err := m.Read(Piece{at, n})
	if err != nil {
		return nil, err
	}
	return b[0], nil
}
