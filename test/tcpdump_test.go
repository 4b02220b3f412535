package test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// captured is what tcpdump has written of packets, by their last line.
func captured(t testing.TB, dir string) (out []string) {
	t.Helper()
	b, _ := os.ReadFile(filepath.Join(dir, "capture"))
	const file, packet = 24, 16 // length of the header of the file, and of one before each packet
	for b = b[min(file, len(b)):]; len(b) >= packet; {
		n := int(binary.NativeEndian.Uint32(b[8:]))
		if len(b) < packet+n {
			break // half written
		}
		out = append(out, string(b[packet+n-6:packet+n]))
		b = b[packet+n:]
	}
	return out
}

// tcpdump, whose ring packets go through, sees each packet that comes while it is
// there, once and in order: also those that it had not read yet when it was saved.
func TestTcpdump(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	kernelMemory(t)
	for _, how := range [][]string{{"-i", "any"}, {"-i", "lo", "--immediate-mode", "-s", "128"}} {
		t.Run(strings.Join(how, " "), func(t *testing.T) {
			testkit.NoLeaks(t)
			to, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			port := to.LocalAddr().(*net.UDPAddr).Port
			argv := append([]string{testkit.RequireProgram(t, "tcpdump", "tcpdump"), "-Z", "root", "-n", "-U", "-w", "capture"}, how...)
			p := testkit.Start(t, testkit.NewDir(t), append(argv, "udp", "and", "dst", "port", fmt.Sprint(port))...)
			var sent []string
			send := func(n int) {
				for range n {
					sent = append(sent, fmt.Sprintf("%06d", len(sent)))
					if _, err := to.WriteTo([]byte(sent[len(sent)-1]), to.LocalAddr()); err != nil {
						t.Fatal(err)
					}
				}
			}
			seen := func() bool { return len(captured(t, p.Dir)) >= len(sent) }
			testkit.Await(t, p.Dir, p.PID, "tcpdump to listen", func() bool {
				if len(captured(t, p.Dir)) == 0 {
					to.WriteTo([]byte("before"), to.LocalAddr()) //nolint:errcheck // it is tried again
				}
				return len(captured(t, p.Dir)) > 0
			})
			first := -1
			for range 2 {
				send(40)
				testkit.Await(t, p.Dir, p.PID, "packets to be seen", seen)
				send(10)
				img := testkit.NewDir(t)
				e.Save(t, p.PID, img)
				e.Restore(t, img)
				send(10)
			}
			testkit.Await(t, p.Dir, p.PID, "packets to be seen after the restore", func() bool {
				all := captured(t, p.Dir)
				for first = 0; first < len(all) && all[first] == "before"; first++ {
				}
				return len(all)-first >= len(sent)
			})
			if got := captured(t, p.Dir)[first:]; strings.Join(got, " ") != strings.Join(sent, " ") {
				t.Errorf("got %v", got)
			}
			testkit.Unharmed(t, p.PID)
		})
	}
}
