package bpf

import (
	"errors"
	"fmt"

	"glis.dev/glis/internal/linux"
)

// Sight is a program of linux.BPFLoadClassifier that is to see packets at an interface.
type Sight struct {
	Program, Index int
	Where          uint32 // linux.BPF_TCX_INGRESS or BPF_TCX_EGRESS
	First          bool   // before all programs that are there
}

// Attach has the program see packets for as long as the link is open whose descriptor it
// returns (Linux 6.6, CAP_NET_ADMIN). The kernel waits until no packet is on its way that
// does not know of it, some ten milliseconds, and once more when the link is closed.
func (s *Sight) Attach() (int, error) {
	attach := linux.BPFAttachLast
	if s.First {
		attach = linux.BPFAttachFirst
	}
	link, err := attach(s.Program, s.Index, s.Where)
	return link, s.unseen(err)
}

// CanAttach tells why not all of these programs could be attached; nil: they could. It
// waits for nothing, so that it may be asked while a tree stands still.
func CanAttach(all []Sight) error {
	type place struct {
		index int
		where uint32
	}
	more := map[place]int{}
	var errs []error
	for i := range all {
		at := place{all[i].Index, all[i].Where}
		more[at]++
		errs = append(errs, all[i].unseen(linux.BPFRoom(at.index, at.where, more[at])))
	}
	return errors.Join(errs...)
}

func (s *Sight) unseen(err error) error {
	if err != nil {
		err = fmt.Errorf("see packets at interface %d (CONFIG_NET_XGRESS, Linux 6.6): %w", s.Index, err)
	}
	return err
}
