package tcp

// States of a TCP socket, see include/net/tcp_states.h.
const (
	Established = 1
	SynSent     = 2
	SynRecv     = 3
	FinWait1    = 4
	FinWait2    = 5
	TimeWait    = 6
	Closed      = 7
	CloseWait   = 8
	LastAck     = 9
	Listening   = 10
	Closing     = 11
)

// PeerClosed tells whether nothing comes any more from the peer.
func PeerClosed(state int) bool { return state == CloseWait || state == LastAck || state == Closing }

// Connected tells whether a socket in this state is one end of a connection.
func Connected(state int) bool { return state != Closed && state != Listening }
