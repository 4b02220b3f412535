package arch

// Call is one system call of a process that Spawn makes.
type Call struct {
	Nr, A, B, C uint64
}

// Report is what it writes to a descriptor, the first 8 bytes of this, if a call
// fails.
type Report struct {
	Result int64 // of that call
	FD     uint64
}

// clone makes a process that shares our memory and does these calls.
func clone(flags uint64, list *Call, report *Report) int64

// Spawn makes a process by clone(2) with CLONE_VM and these flags, and does not
// wait for it: it makes the calls of a list, the last of which is execve(2), while
// its maker goes on. If one fails it ends with status 127. All that it is given,
// what the calls refer to included, must neither move nor be freed until it has
// executed. It has the signal mask of its maker, which must block everything: a
// handler of ours must not run in it.
//
// The result is its number, or the negative errno.
func Spawn(flags uint64, list []Call, report *Report) int64 {
	return clone(flags|cloneVM, &list[0], report)
}

const cloneVM = 0x100 // CLONE_VM, linux/sched.h
