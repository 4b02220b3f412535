package arch

const (
	CalledNrSize  = 0
	SysRestart    = 128
	SysArchPrctl  = 0 // there is none
	SysModifyLDT  = 0 // nor this
	SysIoperm     = 0 // nor this
	SysIopl       = 0 // nor this
	RestartSys    = -512
	RestartNoHand = -514
	RestartBlock  = -516
)

func CalledNr(code []byte) (nr uint64, ok bool)                  { return 0, false }
func RestartCode(r *Regs) (code int64, ok bool)                  { return 0, false }
func ValidRestart(code int64) bool                               { return false }
func Again(r *Regs, nr uint64)                                   {}
func AtCall(r *Regs, nr uint64) bool                             { return false }
func SetInterrupted(r *Regs, nr uint64, code int64, folded bool) {}
func Finish(r *Regs, result int64)                               {}
func Renewable(nr uint64, a [6]uint64) bool                      { return false }
func SomeMessages(r *Regs) (fd int32, ok bool)                   { return 0, false }
func IsConnect(nr uint64) bool                                   { return false }
func SleepArgs(nr uint64) (request, rest int, ok bool)           { return 0, 0, false }
func CallOf(a [6]uint64, block [2]uint64) (nr uint64, ok bool)   { return 0, false }
func Timed(nr uint64, a [6]uint64) bool                          { return false }
func TimeArg(nr uint64) (arg int, milliseconds, ok bool)         { return 0, false, false }
func Polled(nr uint64, a [6]uint64) (at uint64, n uint32)        { return 0, 0 }
func BlockCall(a [6]uint64) (nr uint64, ok bool)                 { return 0, false }

func BlockEnd(nr uint64, a [6]uint64, block [4]uint64) (clock int32, end uint64, ok bool) {
	return 0, 0, false
}
