package unix

import (
	"fmt"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
)

// Behind implements kind.Ordered: criu only finds the peer of a socket that comes
// before it, unless the peer has the socket as its own one, too.
func (k *Kind) Behind(env *kind.DumpEnv, f *scan.File) (*scan.File, error) {
	if err := k.gather(env); err != nil {
		return nil, err
	}
	u, err := k.picture.get(uint32(f.Stat.Ino))
	if err != nil || u == nil { // Dump says why that can't be
		return nil, nil //nolint:nilerr // see there
	}
	n := k.picture.peerNumber(u)
	peer := k.picture.files[n]
	if n == 0 || peer == nil || peer == f {
		return nil, nil
	}
	p, err := k.picture.get(n)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", peer, err)
	}
	if p == nil || k.picture.peerNumber(p) == u.Ino {
		return nil, nil
	}
	return peer, nil
}
