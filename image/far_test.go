package image

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// Payloads that are not too large together are used beside each other, and larger ones
// one after the other.
func TestFarTogether(t *testing.T) {
	const half = mostAtOnce / 2
	store := memory{}
	f, err := store.Create("x")
	check(t, err)
	_, err = f.Write(bytes.Repeat([]byte("abcd"), mostAtOnce/2))
	check(t, errors.Join(err, f.Close()))
	met := make(chan struct{})
	var g errgroup.Group
	for i := range 2 {
		g.Go(func() error {
			p := &Far{store: store, name: "x", at: int64(i), size: half}
			return p.Use(func(b []byte) error {
				if len(b) != half || b[0] != "abcd"[i] {
					return errors.New("it is another one")
				}
				select {
				case met <- struct{}{}:
				case <-met:
				case <-time.After(time.Minute):
					return errors.New("the other one isn't used meanwhile")
				}
				return nil
			})
		})
	}
	check(t, g.Wait())
	alone := make(chan struct{}, 1)
	for range 4 {
		g.Go(func() error {
			p := &Far{store: store, name: "x", size: mostAtOnce + 1}
			return p.Use(func([]byte) error {
				select {
				case alone <- struct{}{}:
				default:
					return errors.New("more are in memory than may be")
				}
				<-alone
				return nil
			})
		})
	}
	check(t, g.Wait())
}
