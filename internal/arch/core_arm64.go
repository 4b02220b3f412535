package arch

import core "glis.dev/glis/image/criu/criu-core"

// Machine is this CPU's name in core images.
const Machine = core.CoreEntry_AARCH64

func PutCore(c *core.CoreEntry, r *Regs, xstate []byte) error { return ErrUnsupported }
func GetCore(c *core.CoreEntry) (r Regs, x []byte, err error) { return r, nil, ErrUnsupported }
func XStateSize() int                                         { return 0 }
func TrimXState(xstate []byte) []byte                         { return append([]byte(nil), xstate...) }
func PadXState(xstate []byte) []byte                          { return xstate }
func XStateExtra(xstate []byte) ([]byte, error)               { return nil, ErrUnsupported }
func AddXStateExtra(xstate, extra []byte) ([]byte, error)     { return nil, ErrUnsupported }
func DynamicXState() uint64                                   { return 0 }
func SetClearTID(c *core.CoreEntry, addr uint64)              {}
func ClearTID(c *core.CoreEntry) uint64                       { return 0 }
func Segments(r *Regs) error                                  { return ErrUnsupported }
