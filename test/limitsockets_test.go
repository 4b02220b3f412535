package test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// socketRefusals are states of targets/refusedsockets.c, the row of docs/limits.md
// that says so, and words of the message.
var socketRefusals = []struct{ state, row, words string }{
	{"kernelmessage", "queue of a netlink socket that the kernel has sent", "of the kernel's"},
	{"groupmessage", "that came to a group", "to group 1"},
	{"netlinkerror", "an error that waits at a netlink", "an error waits"},
	{"rawudp", "what the kernel would act upon as well", "protocol 17"},
	{"rawtcp", "what the kernel would act upon as well", "protocol 6"},
	{"packetqueue", "what it has heard this machine send (PACKET_OUTGOING) by another interface than loopback", "would send it once more"},
	{"packetshort", "whose frames are shorter than 128 bytes", "its frames are shorter than 128 bytes"},
	{"rawerror", "errors that wait at a UDP, ping or raw socket", "no packet brought"},
	{"packeterror", "an error that waits at a netlink or packet socket, but", "an error waits to be reported"},
	{"packetgone", "that is bound to an interface that is gone", "its interface is gone"},
	{"packetown", "a private mapping of it that was written to", "a private mapping"},
	{"packetpart", "of which a part is mapped", "only the whole can be mapped"},
	{"packetclosed", "mapped by who has closed it", "of a socket that is closed"},
	{"packetfanout", "a program of classic BPF that chooses who gets a packet", "use one of eBPF"},
	{"spread", "over sockets some of which are outside of the tree", "dump them together"},
	{"xdpmemory", "an AF_XDP socket with rings or memory", "XDP_UMEM_REG"},
	{"router", "of a multicast router (MRT_INIT)", "MRT_INIT"},
	{"alert", "a router alert (IPV6_ROUTER_ALERT", "IP_ROUTER_ALERT"},
	{"tapfilter", "a tap with a filter (TUNATTACHFILTER)", "TUNATTACHFILTER"},
}

// TestSocketLimits: each state is refused by name, and the target goes on unharmed.
func TestSocketLimits(t *testing.T) {
	e := glisOnly(t)
	doc, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	path := testkit.BuildC(t, "targets/refusedsockets.c")
	for _, x := range socketRefusals {
		t.Run(x.state, func(t *testing.T) {
			if !strings.Contains(string(doc), x.row) {
				t.Errorf("docs/limits.md does not say %q", x.row)
			}
			if slices.Contains(onlyMemory, x.state) {
				kernelMemory(t)
			}
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), path, x.state, ".")
			p.AwaitAt(t, 0)
			before := testkit.Look(t, p.PID)
			refused(t, e, []string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "-R"}, "not supported", x.words)
			testkit.Unharmed(t, p.PID)
			if d := testkit.Diff(before, testkit.Look(t, p.PID), "ticks: "); d != "" {
				t.Errorf("the target has changed:\n%s", d)
			}
			p.Go(t, 0, true)
			p.WaitExit(t, 0)
		})
	}
}
