package cli

import (
	"fmt"
	"path/filepath"

	"glis.dev/glis/options"
)

// inspect shows what images hold.
func (a *App) inspect(c *call) int {
	o, ok := c.settings.(*options.Inspect)
	if !ok {
		return a.fail(c.verb.name, fmt.Errorf("settings of type %T", c.settings))
	}
	return a.look(c, &o.Common, func(s *session) error { return a.Engine.Inspect(s.ctx, o, a.Stdout, s.log) })
}

// verify compares images with their checksums.
func (a *App) verify(c *call) int {
	o, ok := c.settings.(*options.Verify)
	if !ok {
		return a.fail(c.verb.name, fmt.Errorf("settings of type %T", c.settings))
	}
	return a.look(c, &o.Common, func(s *session) error { return a.Engine.Verify(s.ctx, o, a.Stdout, s.log) })
}

// look does what a verb does that only looks at images. The directory may
// stand behind the verb.
func (a *App) look(c *call, common *options.Common, f func(*session) error) int {
	if err := c.dirFromWord(common); err != nil {
		return a.fail(c.verb.name, err)
	}
	s, ok := a.open(c, common, reads)
	if !ok {
		return exitError
	}
	if err := f(s); err != nil {
		return s.fail(stopped(s.ctx, err), "")
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
