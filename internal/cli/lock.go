package cli

import (
	"context"
	"fmt"
	"log/slog"

	"glis.dev/glis/options"
)

// lock holds back the packets of a checkpoint's connections: on the host that
// is about to restore them, before it has their address.
func (a *App) lock(c *call) int {
	return a.lockWith(c, a.Engine.Lock, "Held back: the packets of %d connections and UDP ports, until they are restored or 'unlock' is called\n")
}

// unlock lets them through: when no restore is to come.
func (a *App) unlock(c *call) int {
	return a.lockWith(c, a.Engine.Unlock, "Let through: the packets of %d connections and UDP ports\n")
}

func (a *App) lockWith(c *call, act func(context.Context, *options.Lock, *slog.Logger) (int, error), done string) int {
	o, ok := c.settings.(*options.Lock)
	if !ok {
		return a.fail(c.verb.name, fmt.Errorf("settings of type %T", c.settings))
	}
	if err := c.dirFromWord(&o.Common); err != nil {
		return a.fail(c.verb.name, err)
	}
	if err := a.checkPrivileges(c.verb.name, o.Unprivileged); err != nil {
		return a.fail(c.verb.name, err)
	}
	s, ok := a.open(c, &o.Common, reads)
	if !ok {
		return exitError
	}
	n, err := act(s.ctx, o, s.log)
	if err != nil {
		return s.fail(stopped(s.ctx, err), "")
	}
	fmt.Fprintf(a.Stdout, done, n)
	s.close()
	return exitOK
}
