package image

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/proto"
)

func TestDirty(t *testing.T) {
	for in, want := range map[string]int64{
		"":                                   0,
		"MemTotal: 5 kB\nDirty:    12 kB\n":  12 << 10,
		"Dirty: 1 kB\nWriteback: 2 kB\n":     3 << 10,
		"Dirty: x kB\nWritebackTmp: 2 kB\n":  0,
		"Dirty: 1 kB\nWriteback: 2 kB\nX: 7": 3 << 10,
	} {
		if got := dirty([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}

// Many files are there after either way to sync them.
func TestSyncMany(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	check(t, err)
	defer d.Close()
	r := NewRecorder(d, false)
	for i := range 2 * syncWhole {
		f, err := r.Create(fmt.Sprintf("pages-%d.img", i))
		check(t, err)
		_, err = f.Write([]byte("x"))
		check(t, err)
		check(t, f.Close())
	}
	if got := r.bytes(); got != 2*syncWhole {
		t.Errorf("%d bytes", got)
	}
	check(t, r.Seal(context.Background(), &inventory.InventoryEntry{ImgVersion: proto.Uint32(2)}))
	check(t, r.SyncAll(context.Background()))
	check(t, d.syncFS())
	names, err := d.List()
	check(t, err)
	if len(names) != 2*syncWhole+2 {
		t.Errorf("files %v", names)
	}
}

// slowDisk is a store whose files are opened only when it is told to.
type slowDisk struct {
	Store
	begun chan struct{} // gets one for each that waits
	free  chan struct{}
	done  *sync.WaitGroup
}

func (s slowDisk) Open(name string) (ReadFile, error) {
	defer s.done.Done()
	s.begun <- struct{}{}
	<-s.free
	return s.Store.Open(name)
}

func (s slowDisk) Sync() error {
	defer s.done.Done()
	return s.Store.Sync()
}

// Files are removed while a sync that nobody waits for any more is not through with
// them: it comes to its end.
func TestSyncLeft(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	check(t, err)
	defer d.Close()
	slow := slowDisk{d, make(chan struct{}, 4*syncing), make(chan struct{}), &sync.WaitGroup{}}
	slow.done.Add(syncing + 1) // files that are opened, and the directory
	r := NewRecorder(slow, false)
	for i := range 2 * syncing {
		f, err := r.Create(fmt.Sprintf("pages-%d.img", i))
		check(t, err)
		check(t, f.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error)
	go func() { left <- r.SyncAll(ctx) }()
	for range syncing {
		<-slow.begun // and the others wait for these
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	for i := range 2 * syncing {
		check(t, r.Remove(fmt.Sprintf("pages-%d.img", i)))
	}
	close(slow.free)
	slow.done.Wait()
	if n := len(slow.begun); n != 0 {
		t.Errorf("%d files more were synced", n)
	}
}
