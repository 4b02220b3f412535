package cli

import (
	"fmt"
	"path/filepath"

	"glis.dev/glis/options"
)

// inspect shows what images hold. The directory may stand behind the verb.
func (a *App) inspect(c *call) int {
	o, ok := c.settings.(*options.Inspect)
	if !ok {
		return a.fail(c.verb.name, fmt.Errorf("settings of type %T", c.settings))
	}
	if len(c.words) > 0 {
		dir, err := filepath.Abs(c.words[0])
		if err != nil {
			return a.fail(c.verb.name, fmt.Errorf("finding directory %s: %w", c.words[0], err))
		}
		o.ImagesDir = dir
	}
	s, ok := a.open(c, &o.Common, reads)
	if !ok {
		return exitError
	}
	ctx, stop := interruptible()
	defer stop()
	if err := a.Engine.Inspect(ctx, o, a.Stdout, s.log); err != nil {
		return s.fail(stopped(ctx, err), "")
	}
	s.close()
	return exitOK
}
