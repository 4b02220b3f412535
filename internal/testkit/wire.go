package testkit

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Faults are what a bad wire does to packets: of thousand so many are lost, or
// arrive twice; all are late by up to Delay, each by another time, so that they
// overtake each other.
type Faults struct {
	Lost, Twice int
	Delay       time.Duration
}

// wire is a program that is between two pairs of interfaces: no kernel has to have
// netem.
type wire struct {
	Faults
	mu  sync.Mutex
	rng *rand.Rand
	out [2]int // packet sockets
}

// Wire joins two namespaces as Veth does, by a wire with faults.
func Wire(t testing.TB, a *Net, inA string, b *Net, inB string, f Faults) {
	t.Helper()
	between := NewNet(t)
	w := &wire{Faults: f, rng: rand.New(rand.NewPCG(1, 2))}
	Veth(t, a, inA, between, "left")
	Veth(t, b, inB, between, "right")
	var stop [2]int
	var err error
	if err = unix.Pipe2(stop[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"left", "right"} {
		index := between.Index(t, name)
		between.Do(func() { w.out[i], err = packets(index) })
		if err != nil {
			t.Fatal(err)
		}
	}
	var ended sync.WaitGroup
	for i := range w.out {
		ended.Add(1)
		go func() { defer ended.Done(); w.carry(w.out[i], w.out[1-i], stop[0]) }()
	}
	t.Cleanup(func() {
		unix.Close(stop[1])
		ended.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		for i := range w.out {
			unix.Close(w.out[i])
			w.out[i] = -1
		}
		unix.Close(stop[0])
	})
}

// Options of linux/if_packet.h: packets come with a header that tells what the
// kernel has put together, and those that we send don't come.
func packets(index int) (int, error) {
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	n, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	return n, errors.Join(
		unix.SetsockoptInt(n, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(n, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.Bind(n, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}))
}

// carry takes packets from one end to the other until it is told to stop.
func (w *wire) carry(from, to, stop int) {
	b := make([]byte, 80<<10)
	for {
		p := []unix.PollFd{{Fd: int32(from), Events: unix.POLLIN}, {Fd: int32(stop)}}
		if _, err := unix.Poll(p, -1); err != nil && err != unix.EINTR || p[1].Revents != 0 {
			return
		}
		n, err := unix.Read(from, b)
		if err != nil {
			continue
		}
		for range w.times() {
			w.send(to, append([]byte(nil), b[:n]...))
		}
	}
}

// times is how often a packet arrives.
func (w *wire) times() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch n := w.rng.IntN(1000); {
	case n < w.Lost:
		return 0
	case n < w.Lost+w.Twice:
		return 2
	}
	return 1
}

func (w *wire) send(to int, packet []byte) {
	w.mu.Lock()
	late := time.Duration(w.rng.Int64N(int64(w.Delay) + 1))
	w.mu.Unlock()
	time.AfterFunc(late, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.out[0] >= 0 {
			_, _ = unix.Write(to, packet) // a wire that is full loses it
		}
	})
}
