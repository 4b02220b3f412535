package file

import (
	"encoding/binary"

	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/proto"
	"golang.org/x/sys/unix"
)

// controlChars is how many control characters a terminal has (NCCS of
// asm/termbits.h), and how many numbers an entry: criu copies the characters
// over the numbers' memory, four into each, and leaves chance in the others.
const controlChars = 19

func packTermios(t *unix.Termios) *tty.TermiosEntry {
	e := &tty.TermiosEntry{CIflag: &t.Iflag, COflag: &t.Oflag, CCflag: &t.Cflag, CLflag: &t.Lflag, CLine: proto.Uint32(uint32(t.Line)), CIspeed: &t.Ispeed, COspeed: &t.Ospeed}
	var b [4 * controlChars]byte
	copy(b[:], t.Cc[:controlChars])
	for i := 0; i < len(b); i += 4 {
		e.CCc = append(e.CCc, binary.LittleEndian.Uint32(b[i:]))
	}
	return e
}

func unpackTermios(e *tty.TermiosEntry) *unix.Termios {
	t := &unix.Termios{Iflag: e.GetCIflag(), Oflag: e.GetCOflag(), Cflag: e.GetCCflag(), Lflag: e.GetCLflag(), Line: uint8(e.GetCLine())}
	var b []byte
	for _, four := range e.GetCCc() {
		b = binary.LittleEndian.AppendUint32(b, four)
	}
	copy(t.Cc[:controlChars], b)
	return t
}
