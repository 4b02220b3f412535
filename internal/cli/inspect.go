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
	if err := c.dirFromWord(&o.Common); err != nil {
		return a.fail(c.verb.name, err)
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

// dirFromWord takes the images directory from behind the verb, if it stands
// there.
func (c *call) dirFromWord(common *options.Common) error {
	if len(c.words) == 0 {
		return nil
	}
	dir, err := filepath.Abs(c.words[0])
	if err != nil {
		return fmt.Errorf("finding directory %s: %w", c.words[0], err)
	}
	common.ImagesDir = dir
	return nil
}
