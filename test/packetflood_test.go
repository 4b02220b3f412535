package test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// flooding sends packets with growing numbers to packet sockets of some protocols at the
// loopback interface, until the test ends.
func flooding(t testing.TB, first, count int) {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	mustDo(t, err)
	out, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	mustDo(t, err)
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		b := make([]byte, 200)
		for n := uint64(1); ; n++ {
			select {
			case <-stop:
				done <- unix.Close(out)
				return
			default:
			}
			if n%16 == 0 {
				time.Sleep(50 * time.Microsecond) // others need the CPU, too
			}
			binary.NativeEndian.PutUint64(b, n)
			for i := range count {
				be := binary.BigEndian.AppendUint16(nil, uint16(first+i))
				// One that has no room goes.
				_ = unix.Sendto(out, b, 0, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(be), Ifindex: lo.Index, Halen: 6})
			}
		}
	}()
	t.Cleanup(func() { close(stop); mustDo(t, <-done) })
}

// Packets come all the time while rings are saved: what is restored is of one moment, so
// that the reader and the kernel meet again.
func TestPacketFlood(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	kernelMemory(t)
	testkit.NoLeaks(t)
	const rings, first = 3, 0x88b5
	flooding(t, first, rings)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/packetflood.c"), ".")
	more := func() {
		size := func(i int) int64 {
			st, err := os.Stat(filepath.Join(p.Dir, fmt.Sprintf("rounds.%d", i)))
			if err != nil {
				return 0
			}
			return st.Size()
		}
		for i := range rings {
			from := size(i)
			testkit.Await(t, p.Dir, p.PID, fmt.Sprintf("packets in ring %d", i), func() bool { return size(i) >= from+3 })
		}
	}
	more()
	for range rounds() {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img, "--leave-running")
		more()
		img = testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
		more()
		os.RemoveAll(img)
	}
}
