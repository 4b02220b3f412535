package sockmem

import (
	"slices"
	"testing"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/bpf/bpftest"
)

// All that is looked at is where it is looked for, also in older kernels than the one that runs.
func TestKernels(t *testing.T) {
	for _, release := range bpftest.Kernels() {
		t.Run(release, func(t *testing.T) {
			x, err := bpf.Parse(bpftest.Kernel(t, release))
			must(t, err)
			l, err := findLayout(x)
			must(t, err)
			if l.passing < 0 {
				t.Error("it isn't known where SO_PASSCRED is")
			}
			p, err := findTCP(x)
			must(t, err)
			if p.Picture == nil || p.UDP == nil || p.UDP.Datagrams == nil {
				t.Errorf("it isn't known where the state of a socket is: TCP %v, UDP %v", p.Picture != nil, p.UDP != nil && p.UDP.Datagrams != nil)
			}
			timersMove(t, x, p)
			if at, want := p.UDP.Datagrams.word[udpHops].at, inUDPv6[release]; at != want {
				t.Errorf("hop_limit of a UDP socket is at %d, want %d", at, want)
			}
		})
	}
}

// inUDPv6 is where hop_limit is in a UDP socket of IPv6: 64 bytes from where its part about
// IPv6 begins, which is 160 bytes from the end in Linux 6.1, and not where its member is.
var inUDPv6 = map[string]int{"6.1": 1344 - 160 + 64, "6.12": 1152 + 32}

// timersMove sees to it that no timer counts as an option that starts it, and who is beside a
// socket as nothing of its own.
func timersMove(t *testing.T, x *bpf.Types, p *TCP) {
	found, err := x.Find(structNamed("sock"), structNamed("inet_connection_sock"), structNamed("timer_list"))
	must(t, err)
	for i, name := range []string{"sk_timer", "icsk_keepalive_timer"} {
		f, err := x.Fields(&found[i], name)
		must(t, err)
		if at := f[0].Offset; at < 0 || !slices.Contains(p.Moving, Span{at, int(found[2].Size)}) {
			t.Errorf("%s, at %d, isn't what changes by itself", name, at)
		}
	}
	f, err := x.Fields(&found[0], "sk_bind2_node")
	must(t, err)
	if at := f[0].Offset; at >= 0 && !slices.Contains(p.Moving, Span{at, 16}) {
		t.Errorf("sk_bind2_node, at %d, isn't what changes by itself", at)
	}
}

// What shares a word with TCP_KEEPCNT and is no option doesn't count, in whichever kernel.
func TestBesideOption(t *testing.T) {
	names := []string{"keepalive_probes", "urg_data", "ecn_flags", "reordering", "tcp_header_len", "compressed_ack", "repair_queue"}
	for _, release := range bpftest.Kernels() {
		x, err := bpf.Parse(bpftest.Kernel(t, release))
		must(t, err)
		found, err := x.Find(structNamed("tcp_sock"))
		must(t, err)
		f, err := x.Fields(&found[0], names...)
		must(t, err)
		for i, n := range names[1:] {
			at := f[i+1].Offset
			known := slices.ContainsFunc(unfixed, func(p part) bool { return p.name == "tcp_sock."+n })
			if at >= 0 && at/4 == f[0].Offset/4 && !known {
				t.Errorf("Linux %s: %s is in one word with keepalive_probes", release, n)
			}
		}
	}
}
