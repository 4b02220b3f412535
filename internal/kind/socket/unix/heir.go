package unix

import (
	"fmt"

	sys "golang.org/x/sys/unix"

	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/options"
)

// heir is a socket that the user hands in (--inherit-fd). The program goes on with it as
// with its own, so it has to be of the same sort.
type heir struct {
	*plan.Heir
	given options.InheritFD
	u     *sk_unix.UnixSkEntry
}

func newHeir(e plan.ID, g *options.InheritFD, u *sk_unix.UnixSkEntry) *heir {
	return &heir{plan.NewHeir(e, g, sys.S_IFSOCK, nil, nil), *g, u}
}

// Check implements plan.Checked.
func (h *heir) Check(env *plan.CheckEnv) error {
	if err := h.Heir.Check(env); err != nil {
		return err
	}
	why, err := h.differs()
	if err == nil && why == "" {
		return nil
	}
	at := fmt.Sprintf("--inherit-fd fd[%d]:%s", h.given.FD, h.given.Key)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return fmt.Errorf("%s: descriptor %d is %s; hand in one like it", at, h.given.FD, why)
}

// differs tells in what it is not like the saved socket, "" if it is.
func (h *heir) differs() (string, error) {
	get := func(opt int) (int, error) { return sys.GetsockoptInt(h.given.FD, sys.SOL_SOCKET, opt) }
	family, err := get(sys.SO_DOMAIN)
	if err != nil || family != sys.AF_UNIX {
		return fmt.Sprintf("a socket of %s, and the program's is a unix socket", socket.FamilyName(family)), err
	}
	typ, err := get(sys.SO_TYPE)
	if err != nil || typ != int(h.u.GetType()) {
		return fmt.Sprintf("a %s, and the program's is a %s", socket.TypeName(typ), socket.TypeName(int(h.u.GetType()))), err
	}
	listens, err := get(sys.SO_ACCEPTCONN)
	if err != nil || typ == sys.SOCK_DGRAM {
		return "", err
	}
	_, lone := sys.Getpeername(h.given.FD)
	switch want := h.u.GetState(); {
	case want == listening && listens == 0:
		return "a socket that doesn't listen, and the program's does", nil
	case want == established && lone != nil:
		return "a socket that is connected to nobody, and the program's is", nil
	}
	return "", nil
}
