package inspect

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	packetsk "glis.dev/glis/image/criu/packet-sock"
	netlinksk "glis.dev/glis/image/criu/sk-netlink"
	skopts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// number is an option that is told if it is not 0.
type number struct {
	name  string
	value uint32
}

func numbers(all ...number) (set []Option) {
	for _, n := range all {
		if n.value != 0 {
			set = append(set, Option{n.name, strconv.FormatUint(uint64(n.value), 10)})
		}
	}
	return set
}

func truth(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}

// packetOptions is socketOptions for what packet sockets have besides.
func packetOptions(p *packetsk.PacketSockEntry) []Option {
	set := numbers(
		number{"PACKET_VERSION", p.GetVersion()}, number{"PACKET_RESERVE", p.GetReserve()}, number{"PACKET_TIMESTAMP", p.GetTimestamp()},
		number{"PACKET_COPY_THRESH", p.GetCopyThresh()}, number{"PACKET_AUXDATA", truth(p.GetAuxData())}, number{"PACKET_ORIGDEV", truth(p.GetOrigDev())},
		number{"PACKET_VNET_HDR", truth(p.GetVnetHdr())}, number{"PACKET_LOSS", truth(p.GetLoss())},
	)
	if p.Fanout != nil { // 0 is a group, too
		set = append(set, Option{"PACKET_FANOUT", strconv.FormatUint(uint64(p.GetFanout()), 10)})
	}
	for _, r := range []struct {
		name string
		ring *packetsk.PacketRing
	}{{"PACKET_RX_RING", p.GetRxRing()}, {"PACKET_TX_RING", p.GetTxRing()}} {
		if r.ring != nil {
			set = append(set, Option{r.name, fmt.Sprintf("%d blocks of %d bytes", r.ring.GetBlockNr(), r.ring.GetBlockSize())})
		}
	}
	if n := len(p.GetMclist()); n > 0 {
		set = append(set, Option{"PACKET_ADD_MEMBERSHIP", fmt.Sprintf("%d times", n)})
	}
	return set
}

// netlinkOptions is socketOptions for what netlink sockets have besides: their groups.
func netlinkOptions(e *netlinksk.NetlinkSkEntry) (set []Option) {
	const told = 16
	var groups []string
	more := 0
	for i, word := range e.GetGroups() {
		for ; word != 0; word &= word - 1 {
			if len(groups) == told {
				more++
				continue
			}
			groups = append(groups, strconv.Itoa(32*i+bits.TrailingZeros32(word)+1))
		}
	}
	if more > 0 {
		groups = append(groups, fmt.Sprintf("and %d more", more))
	}
	if len(groups) > 0 {
		set = append(set, Option{"NETLINK_ADD_MEMBERSHIP", strings.Join(groups, " ")})
	}
	return set
}

// longNames are the options of no certain size, by level and number.
var longNames = map[[2]uint32]string{
	{0, 4}: "IP_OPTIONS", {41, 54}: "IPV6_HOPOPTS", {41, 55}: "IPV6_RTHDRDSTOPTS", {41, 57}: "IPV6_RTHDR", {41, 59}: "IPV6_DSTOPTS",
}

// unseenOptions are those that the kernel tells by no getsockopt(2), or that have
// parts. Keys are not told, but that there are some.
func unseenOptions(e *extra.SocketEntry) []Option {
	set := numbers(
		number{"SO_BUSY_POLL_BUDGET", e.GetBusyPollBudget()}, number{"SO_INQ", truth(e.GetInq())}, number{"TCP_MAXSEG", e.GetMaxSegment()}, number{"IPV6_MTU", e.GetPacketSize()}, number{"sin6_flowinfo", e.GetFlowInfo()}, number{"IPV6_FL_F_REFLECT", truth(e.GetReflects())},
		number{"next frame of the ring", e.GetPlace().GetReceive()}, number{"next frame to send", e.GetPlace().GetSend()}, number{"blocks begun", uint32(min(e.GetPlace().GetBlocks(), math.MaxUint32))}, number{"waits for a block", truth(e.GetPlace().GetWaits())},
		number{"PACKET_FANOUT members", e.GetFanoutMembers()}, number{"coverages of 0 (UDP-Lite)", e.GetFullCoverage()},
	)
	count := func(name, what string, n int) {
		if n > 0 {
			set = append(set, Option{name, fmt.Sprintf("%d %s", n, what)})
		}
	}
	text := func(name, value string) {
		if value != "" {
			set = append(set, Option{name, value})
		}
	}
	text("came with a segment", cameWord(e.GetCame()))
	text("multicast interface", e.GetMulticastInterface())
	if p := e.GetPacketInfo(); p != nil {
		set = append(set, Option{"IPV6_PKTINFO", fmt.Sprintf("%x %s", p.GetAddress(), p.GetInterface())})
	}
	for _, o := range e.GetLong() {
		name := longNames[[2]uint32{o.GetLevel(), o.GetName()}]
		if name == "" {
			name = optionWord(o.GetLevel(), o.GetName())
		}
		count(name, "bytes", len(o.GetValue()))
	}
	count("ring", "parts that aren't zero", len(e.GetRing()))
	count("IP_XFRM_POLICY", "policies", len(e.GetPolicies()))
	count("TCP_MD5SIG", "keys", len(e.GetKeys()))
	count("TCP_FASTOPEN_KEY", "bytes", len(e.GetCookies()))
	count("IPV6_FLOWLABEL_MGR", "leases of flow labels", len(e.GetLabels()))
	count("groups", "memberships", len(e.GetGroups()))
	text("SO_ATTACH_BPF", programWord(e.GetFilter()))
	text("SO_ATTACH_REUSEPORT", programWord(e.GetReusePort().GetProgram()))
	text("PACKET_FANOUT_DATA", programWord(e.GetFanout()))
	return set
}

// cameWord is what a connection of IPv6 knows of what came from its peer.
func cameWord(c *extra.Came) string {
	if c == nil {
		return ""
	}
	s := fmt.Sprintf("hop limit %d", c.GetHops())
	if f := c.GetFlowInfo(); f != 0 {
		s += fmt.Sprintf(", flow label and class %#x", f)
	}
	if c.GetInterface() {
		s += ", by which interface"
	}
	return s
}

func programWord(p *extra.SocketProgram) string {
	switch {
	case p == nil:
		return ""
	case p.Id != nil:
		return fmt.Sprintf("program %d", p.GetId())
	}
	return fmt.Sprintf("%d instructions", len(p.GetClassic()))
}

// whole describes what criu has no entry for, or only a part of one.
func (r *reader) whole(f *File, e *extra.SocketEntry) error {
	if t := e.GetTun(); t != nil {
		f.name(t.GetPath())
		f.Flags = r.openWords(t.GetFlags())
		f.Options = append(f.Options, numbers(number{"TUNSETIFF", t.GetInterface()}, number{"TUNSETSNDBUF", t.GetSendBuffer()})...)
		return nil
	}
	p := e.GetPlain()
	opts := &skopts.SkOptsEntry{}
	if err := proto.Unmarshal(p.GetOptions(), opts); err != nil {
		return fmt.Errorf("socket %d: its options: %w", e.GetId(), err)
	}
	f.Flags, f.Options = r.openWords(p.GetFlags()), socketOptions(opts)
	f.Socket = &Socket{Family: word(map[uint32]string{40: "vsock", 44: "xdp"}, p.GetFamily(), "family"), Type: socketTypeWord(p.GetType())}
	f.Kind = f.Socket.Family + " socket"
	if p.Backlog != nil {
		f.Socket.State = stateListening
		f.Socket.listens(p.GetBacklog())
	}
	const sizeVM = 16 // struct sockaddr_vm: family, reserved, port, cid
	if a := p.GetAddress(); len(a) == sizeVM {
		f.Socket.Local = fmt.Sprintf("%d:%d", binary.LittleEndian.Uint32(a[8:]), binary.LittleEndian.Uint32(a[4:]))
	}
	return nil
}
