package unix

import (
	"fmt"

	"glis.dev/glis/internal/sockdiag"
)

// outside says why a socket whose peer no descriptor of the tree refers to
// can't be carried over. peer may be nil.
func outside(u, peer *sockdiag.Unix) string {
	name := ""
	if peer != nil && len(peer.Name) > 0 {
		name = " (" + nameString(peer.Name) + ")"
	}
	return fmt.Sprintf("its peer, socket %d%s, is outside of the tree or on its way inside a message, which isn't supported yet; dump the process at the other end too, or close the connection first", u.Peer, name)
}
