// Package undo is a stack of steps that take back what was done: pushed
// before each act, run newest first if the whole fails.
package undo

import "errors"

// Stack holds the steps. The zero value is ready; it is not safe for
// concurrent use.
type Stack struct{ steps []step }

type step struct {
	what string
	f    func() error
}

// Push adds a step. what names it in errors.
func (s *Stack) Push(what string, f func() error) { s.steps = append(s.steps, step{what, f}) }

// tries is how often a step is tried.
const tries = 3

// Again calls f until it succeeds, at most three times: what takes something
// back is not given up for a failure that passes (no memory just now, a signal).
// f has done nothing if it fails, or is harmless when it is called once more.
func Again(f func() error) (err error) {
	for range tries {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

// Run takes everything back, newest first. Every step runs, whatever becomes
// of the others; see Again.
func (s *Stack) Run() error {
	var errs []error
	for len(s.steps) > 0 {
		last := s.steps[len(s.steps)-1]
		s.steps = s.steps[:len(s.steps)-1]
		if err := Again(last.f); err != nil {
			errs = append(errs, &Error{last.what, err})
		}
	}
	return errors.Join(errs...)
}

// Release forgets all steps: what was done stays.
func (s *Stack) Release() { s.steps = nil }

// Error says which step of an undo failed.
type Error struct {
	What string
	Err  error
}

func (e *Error) Error() string { return "take back " + e.What + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }
