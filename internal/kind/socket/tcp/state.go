package tcp

// States of a TCP socket, see include/net/tcp_states.h.
const (
	Established = 1
	SynSent     = 2
	SynRecv     = 3
	FinWait1    = 4
	FinWait2    = 5
	Closed      = 7
	CloseWait   = 8
	LastAck     = 9
	Listening   = 10
	Closing     = 11
)

// Connected tells whether a socket in this state is one end of a connection.
func Connected(state int) bool { return state != Closed && state != Listening }
