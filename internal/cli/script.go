package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"

	"glis.dev/glis/internal/event"
	"glis.dev/glis/options"
)

// script is a program that the user has run at each point of a dump or
// restore, as with criu: without arguments, told by its environment.
type script struct {
	path, images string
	log          *slog.Logger
}

// scripts are those of --action-script, in the order they were given.
func scripts(o *options.Common, paths []string, log *slog.Logger) event.All {
	var all event.All
	for _, path := range paths {
		all = append(all, script{path: path, images: o.ImagesDir, log: log})
	}
	return all
}

// Stage implements event.Observer.
func (script) Stage(string) {}

// Notify implements event.Observer: the program's end with anything but 0 is an
// error. What it prints goes where Glis's own errors go.
func (s script) Notify(ctx context.Context, p event.Point, root int) error {
	s.log.Debug("Running an action script", "script", s.path, "action", string(p))
	c := exec.CommandContext(ctx, s.path)
	c.Env = append(os.Environ(), "CRTOOLS_SCRIPT_ACTION="+string(p), "CRTOOLS_IMAGE_DIR="+s.images)
	if root > 0 {
		c.Env = append(c.Env, "CRTOOLS_INIT_PID="+strconv.Itoa(root))
	}
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("the action script %s failed: %w", s.path, err)
	}
	return nil
}
