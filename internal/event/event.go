// Package event is how a dump or restore tells how far it is, and asks at some
// points whether to go on.
package event

import (
	"context"
	"fmt"
)

// Point is a moment at which others may act, by criu's name (action scripts of
// criu(8)).
type Point string

// The points, in order. Those of namespaces are not reached yet.
const (
	PreDump            Point = "pre-dump"     // nothing is touched yet
	PostDump           Point = "post-dump"    // all is written, the tree is still frozen; an error lets it run on
	PreRestore         Point = "pre-restore"  // no process exists yet
	PostRestore        Point = "post-restore" // the tree is whole, and frozen; an error ends it
	PreResume          Point = "pre-resume"   // the tree is to live, its packets come through, its tasks are still stopped
	PostResume         Point = "post-resume"  // its tasks run
	NetworkLock        Point = "network-lock"
	NetworkUnlock      Point = "network-unlock"
	SetupNamespaces    Point = "setup-namespaces"
	PostSetupNamespace Point = "post-setup-namespaces"
)

// Observer is told what happens. Its methods are called from one goroutine at a
// time, and whoever is frozen meanwhile stays so until they return.
type Observer interface {
	// Stage says that a stage of the work begins.
	Stage(name string)
	// Notify says that a point is reached; root is the PID of the tree's root
	// as the engine sees it, 0 before a restore has made it. An error ends the
	// dump or restore, except at PreResume and PostResume, where the tree is
	// to live in any case.
	Notify(ctx context.Context, p Point, root int) error
}

// All are several observers, asked in order.
type All []Observer

// Stage implements Observer.
func (a All) Stage(name string) {
	for _, o := range a {
		o.Stage(name)
	}
}

// Notify implements Observer. The first error ends it.
func (a All) Notify(ctx context.Context, p Point, root int) error {
	for _, o := range a {
		if err := o.Notify(ctx, p, root); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// Listens tells whether anybody is asked at points.
func (a All) Listens() bool {
	for _, o := range a {
		if _, ok := o.(Progress); !ok {
			return true
		}
	}
	return false
}

// Progress is an Observer that only wants to know of stages.
type Progress func(stage string)

// Stage implements Observer.
func (p Progress) Stage(name string) { p(name) }

// Notify implements Observer.
func (Progress) Notify(context.Context, Point, int) error { return nil }
