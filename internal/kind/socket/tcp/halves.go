package tcp

import (
	"encoding/binary"
	"errors"
	"math"

	"glis.dev/glis/internal/kind/socket"
)

// Greet answers a client whose handshake is not over once more, as the kernel had: it may
// not have heard that. One that has takes itself for connected, and tells so again. As nobody
// answers later, and one may be lost, it is sent several times.
func (w *Waiting) Greet() (err error) {
	p := w.answer()
	for range greetings {
		err = errors.Join(err, p.Send(p.To))
	}
	return err
}

const greetings = 3

// answer is the second segment of the handshake.
func (w *Waiting) answer() *socket.Packet {
	e := w.Entry
	back := &segment{Path: Path{Local: w.Remote, Remote: w.Local, Device: w.Device}, bound: true, flags: flagSyn | flagAck, seq: e.GetOutqSeq() - 1, ack: e.GetInqSeq()}
	back.window = uint16(min(e.GetRcvWnd(), math.MaxUint16)) // not scaled in this one
	back.options = w.offered()
	return back.packet()
}

// Kinds of options in segments of a handshake, and how many bytes they take.
const (
	optionNone  = 1
	optionMSS   = 2
	optionScale = 3
	optionSACK  = 4
)

// offered are the options that the client asked for, and gets. The path tells how large
// segments may be if an Ethernet is too large for it.
func (w *Waiting) offered() []byte {
	const ethernet, heads4, heads6 = 1500, 40, 60
	size := uint16(ethernet - heads4)
	if w.Remote.Addr().Is6() {
		size = ethernet - heads6
	}
	e, be := w.Entry, binary.BigEndian
	b := be.AppendUint16([]byte{optionMSS, 4}, size)
	if e.GetOptMask()&optSACK != 0 {
		b = append(b, optionNone, optionNone, optionSACK, 2)
	}
	if e.GetOptMask()&optTimestamps != 0 {
		b = append(b, optionNone, optionNone, segTimestamps, 10)
		b = be.AppendUint32(be.AppendUint32(b, e.GetTimestamp()), w.Echo)
	}
	if e.GetOptMask()&optWscale != 0 {
		b = append(b, optionNone, optionScale, 3, byte(e.GetRcvWscale()))
	}
	return b
}
