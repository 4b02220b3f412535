package cli

import (
	"fmt"

	"glis.dev/glis/options"
)

// demo shows what Glis does.
func (a *App) demo(c *call) int {
	o, ok := c.settings.(*options.Demo)
	if !ok {
		return a.fail(c.verb.name, fmt.Errorf("settings of type %T", c.settings))
	}
	if err := a.checkPrivileges(c.verb.name, o.Unprivileged); err != nil {
		return a.fail(c.verb.name, err)
	}
	ctx, _ := a.interruptible()
	if err := a.Engine.Demo(ctx, o, a.Stdout); err != nil {
		return a.fail(c.verb.name, stopped(ctx, err))
	}
	return exitOK
}
