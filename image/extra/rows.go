// Package extra is the images that Glis writes beside criu's: what criu's
// format has no field for. criu ignores files it does not know, so it restores
// such a checkpoint without what is in them.
package extra

import (
	"glis.dev/glis/image"
	"glis.dev/glis/image/proto"
)

const (
	magicAddresses  uint32 = 0x474c4101 // "GLA", 1
	magicSockets    uint32 = 0x474c5301 // "GLS", 1
	magicIdentities uint32 = 0x474c5302
	magicWaiting    uint32 = 0x474c5303
	magicTCPWaiting uint32 = 0x474c5701 // "GLW", 1
	magicDatagrams  uint32 = 0x474c4401 // "GLD", 1
	magicQueued     uint32 = 0x474c4402
)

// Sockets is what criu's entries of sockets have no field for; see SocketEntry.
var Sockets = &image.Row{
	Name: "glis-sockets", Pattern: "glis-sockets.img", Magic: magicSockets, Common: image.CommonMagic,
	New: func() proto.Message { return &SocketEntry{} },
}

// Addresses is the interfaces that local addresses of connections are on; see
// LocalAddress.
var Addresses = &image.Row{
	Name: "glis-addresses", Pattern: "glis-addresses.img", Magic: magicAddresses, Common: image.CommonMagic,
	New: func() proto.Message { return &LocalAddress{} },
}

// Identities is who sockets say that their peers are; see SocketIdentity.
var Identities = &image.Row{
	Name: "glis-identities", Pattern: "glis-identities.img", Magic: magicIdentities, Common: image.CommonMagic,
	New: func() proto.Message { return &SocketIdentity{} },
}

// Waiting is connections that wait to be accepted; see WaitingConnection.
var Waiting = &image.Row{
	Name: "glis-waiting", Pattern: "glis-waiting.img", Magic: magicWaiting, Common: image.CommonMagic,
	New: func() proto.Message { return &WaitingConnection{} },
	Payload: func(m proto.Message) int64 {
		sum := int64(0)
		for _, p := range m.(*WaitingConnection).GetMessages() {
			sum += int64(p.GetLength())
		}
		return sum
	},
}

// TCPWaiting is TCP connections that nobody has accepted yet; see WaitingTCP.
var TCPWaiting = &image.Row{
	Name: "glis-tcp-waiting", Pattern: "glis-tcp-waiting.img", Magic: magicTCPWaiting, Common: image.CommonMagic,
	New: func() proto.Message { return &WaitingTCP{} },
}

// Datagrams is what waits to be read from UDP sockets; see Datagram.
var Datagrams = &image.Row{
	Name: "glis-datagrams", Pattern: "glis-datagrams.img", Magic: magicDatagrams, Common: image.CommonMagic,
	New: func() proto.Message { return &Datagram{} },
}

// Queued is what waits to be read from sockets without connections other than UDP;
// see QueuedMessage.
var Queued = &image.Row{
	Name: "glis-queued", Pattern: "glis-queued.img", Magic: magicQueued, Common: image.CommonMagic,
	New: func() proto.Message { return &QueuedMessage{} },
}

// Table returns every sort of additional image file, in a slice of its own.
func Table() []*image.Row {
	return []*image.Row{Sockets, Addresses, Identities, Waiting, TCPWaiting, Datagrams, Queued}
}
