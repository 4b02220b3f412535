package undo

import (
	"errors"
	"slices"
	"testing"
)

func TestRun(t *testing.T) {
	first, last := errors.New("first"), errors.New("last")
	var s Stack
	var ran []string
	push := func(what string, err error) {
		s.Push(what, func() error {
			ran = append(ran, what)
			return err
		})
	}
	push("a", first)
	push("b", nil)
	push("c", last)
	err := s.Run()
	if want := []string{"c", "c", "c", "b", "a", "a", "a"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
	if !errors.Is(err, first) || !errors.Is(err, last) {
		t.Errorf("%v is not both errors", err)
	}
	if want := "take back c: last\ntake back a: first"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	var step *Error
	if !errors.As(err, &step) || step.What != "c" {
		t.Errorf("%v does not name its step", err)
	}
	if err := s.Run(); err != nil || len(ran) != 7 {
		t.Errorf("a second run: %v, %v", err, ran)
	}
}

// A failure that passes is none.
func TestAgain(t *testing.T) {
	for fails := range tries + 1 {
		left := fails
		err := Again(func() error {
			if left--; left >= 0 {
				return errors.New("not yet")
			}
			return nil
		})
		if (err != nil) != (fails == tries) {
			t.Errorf("after %d failures: %v", fails, err)
		}
	}
}

func TestRelease(t *testing.T) {
	var s Stack
	s.Push("a", func() error { return errors.New("ran") })
	s.Release()
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	ran := false
	s.Push("b", func() error { ran = true; return nil })
	if err := s.Run(); err != nil || !ran {
		t.Fatalf("after Release: %v, %v", ran, err)
	}
}

// A step may push what it finds to be undone.
func TestPushWhileRunning(t *testing.T) {
	var s Stack
	var ran []string
	s.Push("a", func() error { ran = append(ran, "a"); return nil })
	s.Push("b", func() error {
		ran = append(ran, "b")
		s.Push("c", func() error { ran = append(ran, "c"); return nil })
		return nil
	})
	if err := s.Run(); err != nil || !slices.Equal(ran, []string{"b", "c", "a"}) {
		t.Fatal(ran, err)
	}
}
