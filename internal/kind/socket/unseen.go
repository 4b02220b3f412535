package socket

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kmem"
)

// KernelNames are the members of structures that are read of sockets of every
// family.
func KernelNames() []string {
	return append(programNames(), []string{
		"sock", "sock.sk_shutdown", "sock.sk_receive_queue", "sock.sk_error_queue", "sock.sk_err",
		"?sock.sk_busy_poll_budget",             // Linux 5.11, CONFIG_NET_RX_BUSY_POLL
		"?sock.sk_policy", "?xfrm_policy.index", // CONFIG_XFRM
	}...)
}

// soBusyPollBudget is SO_BUSY_POLL_BUDGET, which x/sys/unix has for some
// architectures only by another name.
const soBusyPollBudget = 70

// soInq is SO_INQ of include/uapi/asm-generic/socket.h (Linux 6.17).
const soInq = 84

// ReadUnseen adds what no system call tells of a socket, whatever its family: s
// is a structure that begins with its struct sock.
func ReadUnseen(s *kmem.Struct, m *kmem.Reader, e *extra.SocketEntry) error {
	if m.Has("sock.sk_busy_poll_budget") {
		if n := s.U16("sock.sk_busy_poll_budget"); n != 0 {
			e.BusyPollBudget = proto.Uint32(uint32(n))
		}
	}
	var err error
	if e.Filter, err = readFilter(s, m); err != nil {
		return err
	}
	e.Policies, err = readPolicies(s, m)
	return err
}

// CheckUnseen refuses what an entry can't have.
func CheckUnseen(e *extra.SocketEntry) error {
	if e.GetBusyPollBudget() > math.MaxUint16 {
		return fmt.Errorf("SO_BUSY_POLL_BUDGET of %d can't be", e.GetBusyPollBudget())
	}
	if len(e.GetFilter().GetClassic()) != 0 {
		return errors.New("a filter of classic BPF as one of eBPF can't be")
	}
	return errors.Join(CheckProgram(e.GetFilter()), checkPolicies(e.GetPolicies()))
}

// SetUnseen brings back what ReadUnseen has read. It comes last: a policy
// concerns what is sent and received.
func SetUnseen(own int, e *extra.SocketEntry) error {
	if n := e.GetBusyPollBudget(); n != 0 {
		err := unix.SetsockoptInt(own, unix.SOL_SOCKET, soBusyPollBudget, int(n))
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("it needs CAP_NET_ADMIN: %w", err)
		}
		if err != nil {
			return fmt.Errorf("set SO_BUSY_POLL_BUDGET to %d: %w", n, err)
		}
	}
	return setPolicies(own, e.GetPolicies())
}
