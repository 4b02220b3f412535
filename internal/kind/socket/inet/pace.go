package inet

import (
	"sync"
	"time"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/plan"
)

// pacing has what sets the pace of connections, made when it is first needed.
type pacing struct {
	mu    sync.Mutex
	tried bool
	pacer *tcp.Pacer // nil: this kernel has none
}

// get returns it, nil if there is none.
func (p *pacing) get(env *plan.Env) *tcp.Pacer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.tried {
		p.tried = true
		var err error
		if p.pacer, err = tcp.NewPacer(); err != nil {
			env.Log.Info("connections find out anew how fast they may send", "why", err)
		}
	}
	return p.pacer
}

func (p *pacing) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pacer != nil {
		p.pacer.Close() //nolint:errcheck // nothing can be done about it
	}
	p.pacer = nil
}

// setPace has a connection, which may not send yet, go on as fast as it went. Where
// the kernel can't it begins anew, see docs/limits.md.
func (n *node) setPace(env *plan.Env, own *fd.FD) error {
	if !n.live() || n.stream.Pace == nil || n.stream.State == tcp.SynSent {
		return nil
	}
	p := n.kind.pacing.get(env)
	if p == nil {
		return nil
	}
	return p.Set(own.Int(), n.stream.Pace.Rested(time.Now()))
}
