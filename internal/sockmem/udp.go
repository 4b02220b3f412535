package sockmem

import "glis.dev/glis/internal/bpf"

// findUDP finds where things are in the structure of a UDP socket, as far as
// TCP tells it of its own; nil if something isn't where it is known to be.
func findUDP(x *bpf.Types, types []bpf.Type, limit int) *TCP {
	u := &TCP{Size: int(types[inUDP6].Size), Size4: int(types[inUDP].Size)}
	if u.Size4 <= 0 || u.Size4 > u.Size || u.Size > limit {
		return nil
	}
	var all []place
	for _, p := range places(u) {
		if p.in == inTCPCommon || p.in == inTCPSock || p.in == inInet {
			all = append(all, p)
		}
	}
	// IP_MULTICAST_IF tells an address only.
	all = append(all, place{in: inInet, name: "mc_index", size: 4}, place{in: inInet, name: "mc_addr", size: 4})
	at, err := offsets(x, types, all)
	if err != nil {
		return nil
	}
	if u.note(all, at, int(types[inTimer].Size)) != nil {
		return nil
	}
	u.within6(x, types, inet6At(x, types, inUDP6))
	u.place(x, &types[inUDP])
	if u.Datagrams, err = findUDPPicture(x, types, u); err != nil {
		return nil
	}
	return u
}

// place notes options of a UDP socket that are known by name.
func (t *TCP) place(x *bpf.Types, udp *bpf.Type) {
	t.Placed = append(t.Placed, "IP_MULTICAST_IF")
	fixed := func(name string, at, size int) {
		if n := len(t.Fixed); at >= 0 {
			if t.Fixed = addSpan(t.Fixed, t.Size4, 0, at, size); len(t.Fixed) > n {
				t.Placed = append(t.Placed, name)
			}
		}
	}
	fixed("UDP_ENCAP", x.Member(udp, "encap_type"), 1)
	fixed("UDP_GRO", x.Member(udp, "udp_flags"), 8)
	if b := x.Bits(udp, "gro_enabled"); b.Size == 1 { // before Linux 6.7
		fixed("UDP_GRO", b.Offset/8, 1)
	}
}
