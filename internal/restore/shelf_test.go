package restore

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
)

// Entries come back from the shelf as they were, whoever put them there meanwhile.
func TestShelf(t *testing.T) {
	s, err := newShelf()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	entry := func(i int) []byte { return bytes.Repeat(fmt.Append(nil, i), i) }
	places := make([]place, 200)
	var all sync.WaitGroup
	for i := range places {
		all.Go(func() {
			var err error
			if places[i], err = s.put(entry(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i, p := range places {
		if b, err := s.get(p); err != nil || !bytes.Equal(b, entry(i)) {
			t.Errorf("entry %d is %q, %v", i, b, err)
		}
	}
	if _, err := s.get(place{s.end, 1}); err == nil {
		t.Error("there is something behind the end")
	}
	(*shelf)(nil).close()
}
