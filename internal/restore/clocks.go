package restore

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/kind/ns"
)

// wantClocks returns the clocks that the tree must go on from in a time
// namespace of its own: if it was in one, or if this host's clocks stand
// before what the tree has seen already (another host, or a reboot). Else
// the time it was away has simply passed.
func wantClocks(tr *tree, s image.Store) (*ns.Clocks, error) {
	own := tr.root.ids.GetTimeNsId() != 0 && tr.root.ids.GetTimeNsId() != tr.inventory.GetRootIds().GetTimeNsId()
	id := uint32(0)
	if own {
		id = tr.root.ids.GetTimeNsId()
	}
	c, ok, err := ns.ReadClocks(s, id)
	if err != nil || !ok {
		return nil, err
	}
	if !own {
		if own, err = c.Behind(); err != nil {
			return nil, err
		}
	}
	if !own {
		return nil, nil
	}
	return &c, nil
}

// enterTime has the stub make the time namespace that its children are in.
func (r *restore) enterTime(st *live) error {
	if r.clocks == nil {
		return nil
	}
	b := st.arena.Batch(st.thread)
	b.Call("unshare(CLONE_NEWTIME)", unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	if err := b.Run(); err != nil {
		return err
	}
	st.arena.Reset()
	return ns.SetClocks(st.thread.Tgid, *r.clocks)
}
