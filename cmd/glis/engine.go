package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"glis.dev/glis/internal/cli"
	"glis.dev/glis/options"
)

// engine joins the command line to what does the work.
type engine struct{}

var errNotBuilt = errors.New("this is not built yet")

func (engine) Dump(context.Context, *options.Dump, *slog.Logger) (cli.DumpStats, error) {
	return cli.DumpStats{}, errNotBuilt
}

func (engine) Restore(context.Context, *options.Restore, *slog.Logger) (*cli.Restored, error) {
	return nil, errNotBuilt
}

func (engine) Check(context.Context, *options.Check, *slog.Logger) (cli.CheckReport, error) {
	return cli.CheckReport{}, errNotBuilt
}

func (engine) Inspect(context.Context, *options.Inspect, io.Writer, *slog.Logger) error {
	return errNotBuilt
}
