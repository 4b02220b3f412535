// Package extra is the images that Glis writes beside criu's: what criu's
// format has no field for. criu ignores files it does not know, so it restores
// such a checkpoint without what is in them.
package extra

import (
	"glis.dev/glis/image"
	"glis.dev/glis/image/proto"
)

var (
	// Sockets is what criu's entries of sockets have no field for; see SocketEntry.
	Sockets = image.OwnMany[SocketEntry]("glis-sockets")

	// Addresses is the interfaces that local addresses of connections are on; see
	// LocalAddress.
	Addresses = image.Own("glis-addresses", func() proto.Message { return &LocalAddress{} })

	// Identities is who sockets say that their peers are; see SocketIdentity.
	Identities = image.Own("glis-identities", func() proto.Message { return &SocketIdentity{} })

	// Waiting is connections that wait to be accepted; see WaitingConnection.
	Waiting = image.Own("glis-waiting", func() proto.Message { return &WaitingConnection{} })

	// TCPWaiting is TCP connections that nobody has accepted yet; see WaitingTCP.
	TCPWaiting = image.Own("glis-tcp-waiting", func() proto.Message { return &WaitingTCP{} })

	// Datagrams is what waits to be read from UDP sockets; see Datagram.
	Datagrams = image.Own("glis-datagrams", func() proto.Message { return &Datagram{} })

	// Queued is what waits to be read from sockets of other families; see QueuedMessage.
	Queued = image.Own("glis-queued", func() proto.Message { return &QueuedMessage{} })
)

// Table returns every sort of additional image file, in a slice of its own.
func Table() []*image.Row {
	return []*image.Row{Sockets, Addresses, Identities, Waiting, TCPWaiting, Datagrams, Queued}
}
