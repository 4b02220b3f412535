package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
)

// A connection that gets into the queue of a listener has a receive buffer like the
// listener's. One that nobody reads from may hold more than fits in there by pieces:
// its peer had sent in larger ones, or the kernel had let the buffer grow.

// pieceSize is what a piece takes of a receive buffer, most of it data.
const pieceSize = 17 << 10

// room makes the receive buffer of a listener as large as a connection needs that is
// about to get into its queue. What it returns makes it as it was.
func (a *Admitter) room(listener int, w *Waiting) (undo func() error, err error) {
	undo = func() error { return nil }
	size, err := unix.GetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return undo, fmt.Errorf("get SO_RCVBUF of the listener: %w", err)
	}
	need := bufferFor(len(w.Queues), a.piece)
	if need <= size {
		return undo, nil
	}
	locks, err := unix.GetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if err != nil {
		return undo, fmt.Errorf("get SO_BUF_LOCK of the listener: %w", err)
	}
	undo = func() error { return setRoom(listener, size, locks) }
	return undo, setRoom(listener, need, locks)
}

// bufferFor is the receive buffer that takes an amount of data by pieces, and offers
// a window for all of it while they come. Small amounts fit into any.
func bufferFor(bytes, piece int) int {
	if bytes <= piece/2 {
		return 0
	}
	n := (bytes + piece - 1) / piece
	return n*pieceSize + n*pieceSize/4
}

// setRoom sets a receive buffer without a sign that a program has set it.
func setRoom(fd, size, locks int) error {
	const half = 2 // the kernel doubles what it is told
	err := linux.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size/half)
	if err != nil {
		return fmt.Errorf("set SO_RCVBUFFORCE of the listener to %d: %w", size/half, err)
	}
	if err := linux.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, locks); err != nil {
		return fmt.Errorf("set SO_BUF_LOCK of the listener to %d: %w", locks, err)
	}
	return nil
}

// device gives the listener the interface that a connection belongs to which is about
// to get into its queue: it gets the listener's, who may have got another one since the
// client had come. What it returns gives back the listener's own.
func device(listener int, w *Waiting) (undo func() error, err error) {
	undo = func() error { return nil }
	own, err := socket.ReadAttachment(listener, false)
	if err != nil || own.Device == w.Device {
		return undo, err
	}
	undo = func() error { return socket.BindToDevice(listener, own.Device) }
	return undo, socket.BindToDevice(listener, w.Device)
}

// withRoom admits a connection while its listener has room for it, and is where it
// belongs to.
func (a *Admitter) withRoom(listener int, w *Waiting, admit func() error) error {
	away, err := device(listener, w)
	if err != nil {
		return errors.Join(err, away())
	}
	undo, err := a.room(listener, w)
	if err == nil {
		err = admit()
	}
	return errors.Join(err, undo(), away())
}
