package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"glis.dev/glis"
	"glis.dev/glis/image"
	"glis.dev/glis/internal/cli"
	"glis.dev/glis/internal/demo"
	"glis.dev/glis/internal/dump"
	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/feature"
	"glis.dev/glis/internal/inspect"
	"glis.dev/glis/internal/restore"
	"glis.dev/glis/options"
)

// engine joins the command line to what does the work.
type engine struct {
	cpus int // as beAlone returned it
}

func (e engine) Dump(ctx context.Context, o *options.Dump, log *slog.Logger, obs event.All) (cli.DumpStats, error) {
	e.readyFor(o.Tree)
	store, err := image.OpenDir(o.ImagesDir)
	if err != nil {
		return cli.DumpStats{}, err
	}
	defer store.Close()
	s, err := dump.Run(ctx, o, store, log, obs)
	return cli.DumpStats{
		FreezingTime: s.GetFreezingTime(), FrozenTime: s.GetFrozenTime(), MemdumpTime: s.GetMemdumpTime(), MemwriteTime: s.GetMemwriteTime(),
		PagesScanned: s.GetPagesScanned(), PagesSkippedParent: s.GetPagesSkippedParent(), PagesWritten: s.GetPagesWritten(), PagesLazy: s.GetPagesLazy(),
	}, err
}

func (e engine) Restore(ctx context.Context, o *options.Restore, log *slog.Logger, obs event.All) (*cli.Restored, error) {
	e.readyForImages(o.ImagesDir)
	store, err := image.OpenDir(o.ImagesDir)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	done, err := restore.Run(ctx, o, store, log, obs)
	if errors.Is(err, restore.ErrOwnNumber) {
		return nil, errors.Join(err, startAgain())
	}
	if err != nil {
		return nil, err
	}
	s := done.Stats
	return &cli.Restored{
		Stats: cli.RestoreStats{
			PagesCompared: s.GetPagesCompared(), PagesSkippedCow: s.GetPagesSkippedCow(), PagesRestored: s.GetPagesRestored(),
			ForkingTime: s.GetForkingTime(), RestoreTime: s.GetRestoreTime(),
		},
		Wait: func() (int, error) { return wait(done.PID) },
	}, nil
}

// restarts counts, in the environment, how often this program has started
// itself again.
const restarts = "GLIS_RESTARTS"

// startAgain replaces this program by itself: its threads get other numbers.
// It returns only if that can't be or doesn't help.
func startAgain() error {
	n, _ := strconv.Atoi(os.Getenv(restarts))
	if n >= 8 {
		return nil
	}
	if err := os.Setenv(restarts, strconv.Itoa(n+1)); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// wait waits for the end of the restored root process.
func wait(pid int) (int, error) {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		case ws.Signaled():
			return 128 + int(ws.Signal()), nil
		case ws.Exited():
			return ws.ExitStatus(), nil
		}
	}
}

func (engine) Check(ctx context.Context, o *options.Check, log *slog.Logger) (cli.CheckReport, error) {
	required, optional, err := feature.New().Check(ctx, os.Stdout, feature.Scope{Feature: o.Feature, Extra: o.Extra})
	return cli.CheckReport{Required: required, Optional: optional}, err
}

func (engine) Inspect(ctx context.Context, o *options.Inspect, w io.Writer, log *slog.Logger) error {
	store, err := image.OpenDir(o.ImagesDir)
	if err != nil {
		return err
	}
	defer store.Close()
	return inspect.Run(ctx, o, store, w)
}

func (engine) Lock(_ context.Context, o *options.Lock, _ *slog.Logger) (int, error) {
	return glis.Lock(o.ImagesDir, o.RemapAddr...)
}

func (engine) Unlock(_ context.Context, o *options.Lock, _ *slog.Logger) (int, error) {
	return glis.Unlock(o.ImagesDir, o.RemapAddr...)
}

func (engine) Verify(ctx context.Context, o *options.Verify, w io.Writer, log *slog.Logger) error {
	store, err := image.OpenDir(o.ImagesDir)
	if err != nil {
		return err
	}
	defer store.Close()
	return inspect.Verify(ctx, store, w)
}

func (engine) Demo(ctx context.Context, o *options.Demo, w io.Writer) error {
	return demo.Run(ctx, o, w)
}
