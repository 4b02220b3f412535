package proc

import (
	"bytes"
	"math"
	"strconv"
)

// text is a cursor over one line. The first failure sticks and empties the
// line, so that a parser reads straight on and looks at err once.
type text struct {
	b    []byte
	file string
	line int
	err  error
}

func (t *text) fail(want string) {
	if t.err == nil {
		t.err = &ParseError{File: t.file, Line: t.line, Want: want, Got: excerpt(t.b)}
	}
	t.b = nil
}

// digit returns the value of a digit in any base up to 16, or 255.
func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// number reads digits up to the first byte that is none.
func (t *text) number(base, limit uint64, want string) uint64 {
	var n uint64
	i := 0
	for ; i < len(t.b); i++ {
		v := uint64(digit(t.b[i]))
		if v >= base {
			break
		}
		if v > limit || n > (limit-v)/base {
			t.fail(want + " of at most " + strconv.FormatUint(limit, 10))
			return 0
		}
		n = n*base + v
	}
	if i == 0 {
		t.fail(want)
		return 0
	}
	t.b = t.b[i:]
	return n
}

func (t *text) dec(want string) uint64   { return t.number(10, math.MaxUint64, want) }
func (t *text) dec32(want string) uint32 { return uint32(t.number(10, math.MaxUint32, want)) }
func (t *text) hex(want string) uint64   { return t.number(16, math.MaxUint64, want) }
func (t *text) hex32(want string) uint32 { return uint32(t.number(16, math.MaxUint32, want)) }
func (t *text) oct32(want string) uint32 { return uint32(t.number(8, math.MaxUint32, want)) }

// signed reads a decimal number of at most limit, or down to -limit-1.
func (t *text) signed(limit uint64, want string) int64 {
	if len(t.b) > 0 && t.b[0] == '-' {
		t.b = t.b[1:]
		return -int64(t.number(10, limit+1, want))
	}
	return int64(t.number(10, limit, want))
}

func (t *text) int64(want string) int64 { return t.signed(math.MaxInt64, want) }
func (t *text) int32(want string) int32 { return int32(t.signed(math.MaxInt32, want)) }

// flag reads 0 or 1.
func (t *text) flag(want string) bool { return t.number(10, 1, want) == 1 }

// has consumes s if it comes next.
func (t *text) has(s string) bool {
	if len(t.b) < len(s) || string(t.b[:len(s)]) != s {
		return false
	}
	t.b = t.b[len(s):]
	return true
}

// lit consumes s, which must come next.
func (t *text) lit(s string) {
	if !t.has(s) {
		t.fail(strconv.Quote(s))
	}
}

// blanks skips spaces and tabs.
func (t *text) blanks() {
	i := 0
	for i < len(t.b) && (t.b[i] == ' ' || t.b[i] == '\t') {
		i++
	}
	t.b = t.b[i:]
}

// word reads up to the next blank or the end, and the blanks behind it.
func (t *text) word(want string) []byte {
	i := 0
	for i < len(t.b) && t.b[i] != ' ' && t.b[i] != '\t' {
		i++
	}
	if i == 0 {
		t.fail(want)
		return nil
	}
	w := t.b[:i]
	t.b = t.b[i:]
	t.blanks()
	return w
}

// rest takes what is left.
func (t *text) rest() []byte {
	b := t.b
	t.b = nil
	return b
}

// end demands that nothing but blanks is left, and returns the first failure.
func (t *text) end() error {
	t.blanks()
	if len(t.b) > 0 {
		t.fail("the end of the line")
	}
	return t.err
}

// cutLine splits off the first line. The last one needs no newline.
func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// eachLine calls f for every line of a file until one fails.
func eachLine(file string, b []byte, f func(t *text)) error {
	for n := 1; len(b) > 0; n++ {
		t := text{file: file, line: n}
		t.b, b = cutLine(b)
		f(&t)
		if t.err != nil {
			return t.err
		}
	}
	return nil
}

// oneLine is the cursor over a file of a single line.
func oneLine(file string, b []byte) *text {
	return &text{b: bytes.TrimSuffix(b, []byte{'\n'}), file: file, line: 1}
}
