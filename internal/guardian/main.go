package guardian

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// Hooks is what the guardian lets others do.
type Hooks struct {
	// Discard removes the images of a dump that was not completed from the
	// directory that is open as a descriptor.
	Discard func(dir int) error
}

// Main becomes the guardian if this process was started as one, and then does
// not return. Else it notes that it may be.
func Main(h Hooks) {
	if len(os.Args) != 2 || os.Args[0] != argument {
		ready.Store(true)
		return
	}
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGABRT, unix.SIGTSTP, unix.SIGTTOU, unix.SIGUSR1, unix.SIGUSR2)
	if err := run(Role(os.Args[1]), h); err != nil {
		fmt.Fprintf(os.Stderr, "Error (guardian): %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run does what is left to do: the engine has died.
func run(role Role, h Hooks) error {
	handed, err := collect(fdHands, 0)
	if err != nil {
		return err
	}
	b, err := readJournal(fdJournal)
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	s := readStory(b)
	if s.phase == Done {
		return nil
	}
	if role == Restore {
		tasks, loans, err := sortHanded(handed)
		return errors.Join(err, s.endRestore(tasks, loans))
	}
	lent, err := collectLent(handed)
	return errors.Join(err, s.endDump(h, lent))
}

// collect takes the descriptors that the engine has handed over; flags are
// those of recvmsg(2).
func collect(hands, flags int) ([]*fd.FD, error) {
	var got []*fd.FD
	data, control := make([]byte, 64), make([]byte, unix.CmsgSpace(4*fd.MaxRights))
	for {
		n, c, _, _, err := unix.Recvmsg(hands, data, control, unix.MSG_CMSG_CLOEXEC|flags)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECONNRESET || err == unix.EAGAIN || err == nil && n == 0 && c == 0:
			return got, nil
		case err != nil:
			return got, fmt.Errorf("take what the engine has handed over: %w", err)
		}
		fds, err := rights(control[:c])
		if err != nil {
			return got, err
		}
		got = append(got, fds...)
	}
}

func rights(control []byte) ([]*fd.FD, error) {
	msgs, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var out []*fd.FD
	for i := range msgs {
		ns, err := syscall.ParseUnixRights(&msgs[i])
		if err != nil {
			return out, err
		}
		for _, n := range ns {
			out = append(out, fd.New(n))
		}
	}
	return out, nil
}

// endRestore ends a restore whose engine has died.
func (s *story) endRestore(tasks, loans []*fd.FD) error {
	if s.phase != Released {
		return errors.Join(killAll(tasks), s.awaitEnds(), s.removeShms(), s.removeCgroups())
	}
	lent, err := collectLent(loans)
	// Packets come through when the last descriptor of the lock is closed, too: before
	// anybody sends one.
	return errors.Join(err, s.unlock(), unix.Close(fdLock), s.setOptions(lent), closeAll(lent), s.unmask(), s.goOn())
}

// endDump ends a dump whose engine has died.
func (s *story) endDump(h Hooks, lent []*fd.FD) error {
	switch s.phase {
	case Committed:
		return s.killTasks()
	case Thawed:
		return errors.Join(s.unlock(), s.unlink(), h.Discard(fdImages))
	}
	err := errors.Join(s.thawCgroup(), s.setOptions(lent), closeAll(lent))
	// Packets come through when the last descriptor of the lock is closed.
	return errors.Join(err, s.unlock(), unix.Close(fdLock), s.goOn(), s.unmapArenas(), s.unlink(), h.Discard(fdImages))
}
