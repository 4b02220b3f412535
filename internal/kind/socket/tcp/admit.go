package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
)

// A connection gets into the queue of a listener by a program that the loopback
// interface calls (TCX, Linux 6.6). The program is shown a segment of ours that
// looks like the last of a handshake, and tells the kernel what the handshake
// was about: bpf_sk_assign_tcp_reqsk() (Linux 6.9), which is there for those who
// answer handshakes by themselves. What was read from the peer before is sent
// after it.

// assignRequest is the kernel's function.
const assignRequest = "bpf_sk_assign_tcp_reqsk"

// Admitter puts connections into the queues of listeners. It is not for use by
// several goroutines at once.
type Admitter struct {
	scratch  int
	memory   []byte // is what the programs read
	listener int    // map with the listener that gets what comes
	programs []int
	links    []int
	piece    int // most bytes of data in a segment
}

const syncookies = "/proc/sys/net/ipv4/tcp_syncookies"

// findAssignRequest looks for the kernel's function, once: that is most of what an
// Admitter takes, and a restore tries one before it makes anything.
var findAssignRequest = sync.OnceValues(func() (uint32, error) { return kernelFunction(assignRequest) })

// NewAdmitter prepares it. It says why this kernel can't. The kernel waits until no packet
// is on its way that does not know of the programs, some tens of milliseconds, and once
// more in Close.
func NewAdmitter() (*Admitter, error) {
	a, lo, err := loaded()
	if err != nil {
		return nil, err
	}
	if err := a.attach(lo.Index); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Admits tells why NewAdmitter would fail; nil: it would not. It takes some 5 ms the first
// time, since it does all but to wait.
func Admits() error {
	a, lo, err := loaded()
	if err != nil {
		return err
	}
	err = bpf.CanAttach(a.sights(lo.Index))
	return errors.Join(err, a.Close())
}

// loaded is an Admitter whose programs are called by nobody yet, and the loopback
// interface.
func loaded() (*Admitter, *net.Interface, error) {
	text, err := fd.ReadFile(syncookies)
	if err == nil && strings.TrimSpace(string(text)) == "0" {
		return nil, nil, errors.New("the kernel's way to put it back is off: set the sysctl net.ipv4.tcp_syncookies to 1")
	}
	if err := bpf.Shown(); err != nil { // what was found before does not count then
		return nil, nil, fmt.Errorf("find the kernel's %s() (Linux 6.9): %w", assignRequest, err)
	}
	function, err := findAssignRequest()
	if err != nil {
		return nil, nil, err
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, nil, fmt.Errorf("find the loopback interface: %w", err)
	}
	a := &Admitter{scratch: -1, listener: -1, piece: min(mostPiece, lo.MTU-segmentHeads)}
	if err := a.load(function); err != nil {
		return nil, nil, errors.Join(err, a.Close())
	}
	return a, lo, nil
}

// mostPiece fits, with what belongs to it, into 16 KiB of the kernel's memory.
const (
	mostPiece    = 15 << 10
	segmentHeads = 100 // bytes, of IP and TCP
)

// kernelFunction returns the type of a function of the kernel's.
func kernelFunction(name string) (uint32, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return 0, fmt.Errorf("find the kernel's %s() (Linux 6.9): %w", name, err)
	}
	t, err := x.Find(bpf.Name{Kind: bpf.KindFunc, Name: name})
	if err = errors.Join(err, x.Close()); err == nil && t[0].ID == 0 {
		err = fmt.Errorf("the kernel has no %s(): that needs Linux 6.9", name)
	}
	if err != nil {
		return 0, err
	}
	return t[0].ID, nil
}

func (a *Admitter) load(function uint32) (err error) {
	if a.scratch, a.memory, err = linux.BPFSharedArray(os.Getpagesize()); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_CREATE): %w", err)
	}
	if a.listener, err = linux.BPFSockMap(); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_CREATE) for sockets: %w", err)
	}
	for _, at := range []int{tcpAt4, tcpAt6} {
		p, err := linux.BPFLoadClassifier(admission(a.scratch, a.listener, function, at), bpf.License)
		if err != nil {
			return fmt.Errorf("bpf(BPF_PROG_LOAD) for connections that wait to be accepted (it needs CAP_BPF and CAP_NET_ADMIN): %w", err)
		}
		a.programs = append(a.programs, p)
	}
	return nil
}

// sights are where the programs are to be called.
func (a *Admitter) sights(lo int) (all []bpf.Sight) {
	for _, p := range a.programs {
		all = append(all, bpf.Sight{Program: p, Index: lo, Where: linux.BPF_TCX_INGRESS})
	}
	return all
}

// attach has the loopback interface call the programs.
func (a *Admitter) attach(lo int) error {
	for _, s := range a.sights(lo) {
		l, err := s.Attach()
		if err != nil {
			return err
		}
		a.links = append(a.links, l)
	}
	return nil
}

// Close takes the programs from the interface.
func (a *Admitter) Close() error {
	var errs []error
	for _, n := range append(a.links, a.programs...) { // an interface takes 64: these are waited for
		errs = append(errs, unix.Close(n))
	}
	if a.scratch >= 0 {
		errs = append(errs, unix.Munmap(a.memory), unix.Close(a.scratch))
	}
	if a.listener >= 0 {
		errs = append(errs, unix.Close(a.listener))
	}
	a.links, a.programs, a.scratch, a.listener = nil, nil, -1, -1
	return errors.Join(errs...)
}

// What the programs are told of the segment that they wait for: ports and
// numbers as the segment has them, struct bpf_tcp_req_attrs; and what they tell.
const (
	toldNumbers = 0
	toldAttrs   = 16
	toldResult  = 40
	numbersSize = 12
	attrsSize   = 20
)

// The offset of the mark in struct __sk_buff, include/uapi/linux/bpf.h, and of the
// header of TCP behind those of Ethernet and IP.
const (
	skbMark = 8
	tcpAt4  = 14 + 20
	tcpAt6  = 14 + 40
	tcxNext = -1 // TCX_NEXT
)

// admission is the program, for packets with the header of TCP at a place. Who
// listens it is told: of what comes by the loopback interface the kernel would find
// no one who is bound to another.
//
//	r6 packet, r7 socket, r9 what it is told
func admission(scratch, listener int, function uint32, at int) []bpf.Insn {
	const numbers, key = -16, -24 // on the stack
	body := []bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load32, 2, 6, skbMark, 0),
		bpf.In(bpf.JumpNe, 2, 0, 0, netlock.PassMark),
		bpf.In(bpf.Move, 1, 6, 0, 0), bpf.In(bpf.MoveImm, 2, 0, 0, at),
		bpf.In(bpf.Move, 3, 10, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, numbers), bpf.In(bpf.MoveImm, 4, 0, 0, numbersSize),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SkbLoadBytes),
		bpf.In(bpf.JumpNe, 0, 0, 0, 0),
		bpf.In(bpf.Imm64, 9, bpf.PseudoMapValue, 0, scratch), bpf.In(0, 0, 0, 0, 0),
	}
	for i := 0; i < numbersSize; i += 4 {
		body = append(body, bpf.In(bpf.Load32, 2, 10, numbers+i, 0), bpf.In(bpf.Load32, 3, 9, toldNumbers+i, 0), bpf.In(bpf.JumpNeR, 2, 3, 0, 0))
	}
	body = append(body,
		bpf.In(bpf.MoveImm, 2, 0, 0, 0), bpf.In(bpf.Store64, 10, 2, key, 0),
		bpf.In(bpf.Imm64, 1, bpf.PseudoMapFD, 0, listener), bpf.In(0, 0, 0, 0, 0),
		bpf.In(bpf.Move, 2, 10, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, key),
		bpf.In(bpf.Call, 0, 0, 0, bpf.MapLookupElem),
		bpf.In(bpf.JumpEq, 0, 0, 0, 0),
	)
	found := []bpf.Insn{
		bpf.In(bpf.Move, 7, 0, 0, 0),
		bpf.In(bpf.Move, 1, 7, 0, 0),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SkcToTCPSock),
		bpf.In(bpf.JumpEq, 0, 0, 0, 0),
		bpf.In(bpf.Move, 1, 6, 0, 0), bpf.In(bpf.Move, 2, 0, 0, 0),
		bpf.In(bpf.Move, 3, 9, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, toldAttrs), bpf.In(bpf.MoveImm, 4, 0, 0, attrsSize),
		bpf.In(bpf.Call, 0, bpf.PseudoKfunc, 0, int(function)),
		bpf.In(bpf.Store32, 9, 0, toldResult, 0),
	}
	release := []bpf.Insn{bpf.In(bpf.Move, 1, 7, 0, 0), bpf.In(bpf.Call, 0, 0, 0, bpf.SkRelease)}
	end := []bpf.Insn{bpf.In(bpf.MoveImm, 0, 0, 0, tcxNext), bpf.In(bpf.Exit, 0, 0, 0, 0)}
	jump(found, len(found))
	jump(body, len(body)+len(found)+len(release))
	return append(append(append(body, found...), release...), end...)
}

// jump makes the jumps of a part of a program go to a place that is to
// instructions behind its beginning.
func jump(part []bpf.Insn, to int) {
	for i := range part {
		switch part[i].Code {
		case bpf.JumpEq, bpf.JumpNe, bpf.JumpNeR:
			part[i].Off = int16(to - i - 1)
		}
	}
}

// Admit puts a connection into the queue of a listener, at its end.
func (a *Admitter) Admit(listener int, w *Waiting) error {
	if w.Deferred {
		if err := w.forget(); err != nil {
			return fmt.Errorf("a client that has sent nothing, %v: %w", w.Remote, err)
		}
	}
	if err := a.withRoom(listener, w, func() error { return a.admit(listener, w) }); err != nil {
		return err
	}
	return a.fill(w)
}

func (a *Admitter) admit(listener int, w *Waiting) error {
	before, err := Look(listener)
	if err != nil {
		return err
	}
	if err := linux.BPFSetSock(a.listener, listener); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_UPDATE_ELEM) with a listener: %w", err)
	}
	a.tell(w)
	if err := w.segment(flagAck, w.start(), nil).send(); err != nil {
		return fmt.Errorf("send the listener a segment as if from %v: %w", w.Remote, err)
	}
	err = await(func() (bool, error) {
		now, err := Look(listener)
		return now.Waiting > before.Waiting, err
	})
	if err != nil {
		return fmt.Errorf("a connection from %v doesn't get to the listener (the kernel says %d): %w", w.Remote, int32(binary.NativeEndian.Uint32(a.memory[toldResult:])), err)
	}
	if err := linux.BPFClearSock(a.listener); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_DELETE_ELEM) with a listener: %w", err)
	}
	return nil
}

// tell tells the programs what to wait for.
func (a *Admitter) tell(w *Waiting) {
	m, ne, be := a.memory, binary.NativeEndian, binary.BigEndian
	clear(m[:toldResult+4])
	be.PutUint16(m[0:], w.Remote.Port())
	be.PutUint16(m[2:], w.Local.Port())
	be.PutUint32(m[4:], w.start())
	be.PutUint32(m[8:], w.Entry.GetOutqSeq())
	attrs, e := m[toldAttrs:], w.Entry
	ne.PutUint32(attrs[0:], w.Echo)
	ne.PutUint32(attrs[4:], e.GetTimestamp())
	mss := e.GetMssClamp()
	if w.State == Closed { // nothing is sent by it any more
		mss = max(mss, w.leastMSS())
	}
	ne.PutUint16(attrs[8:], uint16(mss))
	flag := func(at int, option uint32) {
		if e.GetOptMask()&option != 0 {
			attrs[at] = 1
		}
	}
	attrs[10], attrs[11] = byte(e.GetRcvWscale()), byte(e.GetSndWscale())
	flag(13, optWscale)
	flag(14, optSACK)
	flag(15, optTimestamps)
}

// segment is one as the peer would send it.
func (w *Waiting) segment(flags uint8, seq uint32, data []byte) *segment {
	e := w.Entry
	s := &segment{Path: Path{Local: w.Local, Remote: w.Remote, Device: w.Device}, bound: true, flags: flags, seq: seq, ack: e.GetOutqSeq(), data: data, came: &w.Came}
	s.window = uint16(min(e.GetSndWnd()>>e.GetSndWscale(), 1<<16-1))
	if e.GetOptMask()&optTimestamps != 0 {
		const noOption, stampSize = 1, 10
		s.options = []byte{noOption, noOption, segTimestamps, stampSize}
		s.options = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(s.options, w.Echo), e.GetTimestamp())
	}
	return s
}
