package inet

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// checked asks whether the first of the sockets in images can be made.
func checked(t *testing.T, in images) error {
	t.Helper()
	nodes, err := planned(in)
	must(t, err)
	return nodes[0].(plan.Checked).Check(&plan.CheckEnv{Log: slog.New(slog.DiscardHandler)})
}

// quietly closes a socket so that its peer hears nothing of it.
func quietly(t *testing.T, d *fd.FD) {
	t.Helper()
	repair := tcp.Repair()
	must(t, errors.Join(repair.Set(d.Int()), d.Close()))
}

// A connection that came to its end after it was saved is not made again: its peer has
// heard of it. The kernel would let it be made where segments have time stamps.
func TestOver(t *testing.T) {
	t.Run("one by one", over)
	few := fewEnds
	defer func() { fewEnds = few }()
	fewEnds = 0
	t.Run("among all", over)
}

func over(t *testing.T) {
	for _, x := range []struct {
		name string
		then func(t *testing.T, p *pair) // what becomes of it; the first end was saved
		says string                      // "": it may be made
	}{
		{"not closed", func(*testing.T, *pair) {}, ""},
		{"closed in silence", func(t *testing.T, p *pair) { quietly(t, p.ends[0]) }, ""},
		{"closed in silence by both", func(t *testing.T, p *pair) { quietly(t, p.ends[0]); quietly(t, p.ends[1]) }, ""},
		{"closed", func(t *testing.T, p *pair) {
			must(t, p.ends[0].Close())
			p.await(t, 1, tcp.CloseWait)
		}, "in state FIN_WAIT2"},
		{"closed by both", func(t *testing.T, p *pair) {
			must(t, p.ends[0].Close())
			p.await(t, 1, tcp.CloseWait)
			must(t, p.ends[1].Close())
		}, "in state TIME_WAIT"},
		{"shut down", func(t *testing.T, p *pair) {
			must(t, unix.Shutdown(p.ends[0].Int(), unix.SHUT_WR))
			p.await(t, 1, tcp.CloseWait)
		}, "its peer, on this host, is in state CLOSE_WAIT"},
		{"closed by the peer first", func(t *testing.T, p *pair) {
			must(t, p.ends[1].Close())
			p.await(t, 0, tcp.CloseWait)
			must(t, p.ends[0].Close())
		}, "its peer, on this host, is in state TIME_WAIT"},
	} {
		for _, s := range []sort{tcp4, tcp6} {
			t.Run(x.name+"/"+s.String(), func(t *testing.T) {
				p := paired(t, s, map[int]string{unix.AF_INET: "127.0.0.1", unix.AF_INET6: "::1"}[s.family])
				o := &options.Dump{}
				o.TCPEstablished = true
				in, err := dumped(t, o, p.ends[0].Int())
				must(t, err)
				both, err := dumped(t, o, p.ends[0].Int(), p.ends[1].Int())
				must(t, err)
				x.then(t, p)
				err = checked(t, in)
				for end := time.Now().Add(testkit.Patience); x.says != "" && time.Now().Before(end); err = checked(t, in) {
					if errors.Is(err, errOver) && strings.Contains(err.Error(), x.says) {
						err = nil
						break
					}
				}
				if err != nil {
					t.Error(err)
				}
				if err := checked(t, both); err != nil {
					t.Errorf("with both ends: %v", err)
				}
			})
		}
	}
}
