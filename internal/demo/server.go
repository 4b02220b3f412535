package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// serverName is what the process of the demonstration's server is called.
const serverName = "glis-demo-server"

// listenerFD is what the server's listener is in it.
const listenerFD = 3

// A message is a number and the same number inverted: both are checked.
const messageSize = 16

func putMessage(b []byte, n uint64) {
	binary.LittleEndian.PutUint64(b, n)
	binary.LittleEndian.PutUint64(b[8:], ^n)
}

// isMessage tells whether a message is the one that is due.
func isMessage(b []byte, n uint64) bool {
	return binary.LittleEndian.Uint64(b) == n && binary.LittleEndian.Uint64(b[8:]) == ^n
}

// Serve becomes the server if this process was started as one, and then does
// not return.
func Serve() {
	if len(os.Args) != 3 || os.Args[0] != serverName {
		return
	}
	pairs, err := strconv.Atoi(os.Args[1])
	memory, e := strconv.Atoi(os.Args[2])
	if err == nil && e == nil {
		err = serve(pairs, memory)
	}
	fmt.Fprintln(os.Stderr, serverName+":", err)
	os.Exit(1)
}

// server is what the demonstration saves and restores.
type server struct {
	memory []byte
	passed atomic.Uint64 // messages over the unix socket pairs; those over pipes are not counted
	wrong  atomic.Uint64 // messages that were not the ones that were due
}

func serve(pairs, memory int) error {
	s := &server{memory: make([]byte, memory)}
	for at := 0; at+8 <= memory; at += 8 {
		binary.LittleEndian.PutUint64(s.memory[at:], uint64(at)*0x9e3779b97f4a7c15)
	}
	for range pairs {
		if err := errors.Join(s.pair(), s.pipe()); err != nil {
			return err
		}
	}
	given := os.NewFile(listenerFD, "listener")
	l, err := net.FileListener(given)
	_ = given.Close() // else a garbage collection would, some time; l has its own
	if err != nil {
		return err
	}
	control, err := l.Accept() // the first one wants to know how it goes
	if err != nil {
		return err
	}
	go s.report(control)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go s.answer(c)
	}
}

// answer answers numbered messages with the same numbers, until one is not the
// one that is due.
func (s *server) answer(c net.Conn) {
	defer c.Close()
	var b [messageSize]byte
	for n := uint64(0); ; n++ {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return
		}
		if !isMessage(b[:], n) {
			s.wrong.Add(1)
			return
		}
		if _, err := c.Write(b[:]); err != nil {
			return
		}
	}
}

// pair passes numbered messages from one end of a socket pair to the other.
func (s *server) pair() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	s.pass(fds[0], fds[1], &s.passed)
	return nil
}

// pipe passes numbered messages through a pipe.
func (s *server) pipe() error {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	s.pass(fds[1], fds[0], new(atomic.Uint64))
	return nil
}

// pass passes numbered messages between two descriptors and counts them.
func (s *server) pass(out, in int, passed *atomic.Uint64) {
	from, to := os.NewFile(uintptr(out), "from"), os.NewFile(uintptr(in), "to")
	go func() {
		var b [messageSize]byte
		for n := uint64(0); ; n++ {
			putMessage(b[:], n)
			if _, err := from.Write(b[:]); err != nil {
				s.wrong.Add(1)
				return
			}
			pause()
		}
	}()
	go func() {
		var b [messageSize]byte
		for n := uint64(0); ; n++ {
			if _, err := io.ReadFull(to, b[:]); err != nil || !isMessage(b[:], n) {
				s.wrong.Add(1)
				return
			}
			passed.Add(1)
		}
	}()
}

// reportSize is three numbers: messages passed, wrong ones, and bytes of
// memory that are not what they were.
const reportSize = 24

// report answers every byte with a report.
func (s *server) report(c net.Conn) {
	var ask [1]byte
	for {
		if _, err := io.ReadFull(c, ask[:]); err != nil {
			os.Exit(0) // whoever wanted to know is gone
		}
		b := make([]byte, 0, reportSize)
		for _, v := range []uint64{s.passed.Load(), s.wrong.Load(), s.changed()} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		if _, err := c.Write(b); err != nil {
			os.Exit(0)
		}
	}
}

// changed counts the words of memory that are not what they were.
func (s *server) changed() uint64 {
	n := uint64(0)
	for at := 0; at+8 <= len(s.memory); at += 8 {
		if binary.LittleEndian.Uint64(s.memory[at:]) != uint64(at)*0x9e3779b97f4a7c15 {
			n++
		}
	}
	return n
}
