package restore

import (
	"maps"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/eventfd"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/criu/timens"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kinds"
	"glis.dev/glis/internal/plan"
)

// planOf reads and plans a checkpoint.
func planOf(s image.Store) (*tree, *plan.Plan, error) {
	tr, err := read(s)
	if err != nil {
		return nil, nil, err
	}
	o := withShellJob(true)
	bounded, err := bounded()
	if err != nil {
		return nil, nil, err
	}
	env := &plan.CheckEnv{Options: o, Store: s, Capable: func(int) bool { return true }, Bounded: bounded}
	files := beginFiles(s)
	defer files.Stop()
	pl, err := makePlan(tr, s, files, o, kinds.New(), env)
	return tr, pl, err
}

func TestAdd(t *testing.T) {
	for _, c := range []struct {
		name string
		all  []*pstree.PstreeEntry
		want string
	}{
		{name: "one", all: []*pstree.PstreeEntry{process(5, 0, 5, 5)}},
		{name: "parent outside", all: []*pstree.PstreeEntry{process(5, 1, 5, 5, 5, 6)}},
		{name: "twice", all: []*pstree.PstreeEntry{process(5, 0, 5, 5), process(5, 5, 5, 5)}, want: "task 5: number 5 is there twice"},
		{name: "a thread is a task", all: []*pstree.PstreeEntry{process(5, 0, 5, 5, 5, 6), process(6, 5, 5, 5)}, want: "task 6: number 6 is there twice"},
		{name: "a thread twice", all: []*pstree.PstreeEntry{process(5, 0, 5, 5, 5, 6, 6)}, want: "task 5: number 6 is there twice"},
		{name: "thread 0", all: []*pstree.PstreeEntry{process(5, 0, 5, 5, 5, 0)}, want: "task 5: number 0 is there twice or can't be"},
		{name: "large thread", all: []*pstree.PstreeEntry{process(5, 0, 5, 5, 5, maxPID+1)}, want: "number 4194305"},
		{name: "PID 0", all: []*pstree.PstreeEntry{process(0, 0, 5, 5)}, want: "task 0: no such number"},
		{name: "large PID", all: []*pstree.PstreeEntry{process(maxPID+1, 0, 5, 5)}, want: "task 4194305: no such number"},
		{name: "large group", all: []*pstree.PstreeEntry{process(5, 0, maxPID+1, 5)}, want: "(group 4194305, session 5)"},
		{name: "large session", all: []*pstree.PstreeEntry{process(5, 0, 5, 1<<32-1)}, want: "session 4294967295"},
		{name: "parent missing", all: []*pstree.PstreeEntry{process(5, 0, 5, 5), process(6, 7, 5, 5)}, want: "task 6: its parent 7 is missing"},
		{name: "parent behind", all: []*pstree.PstreeEntry{process(5, 0, 5, 5), process(6, 7, 5, 5), process(7, 5, 5, 5)}, want: "task 6: its parent 7 is missing"},
		{name: "two roots", all: []*pstree.PstreeEntry{process(5, 0, 5, 5), process(6, 0, 5, 5)}, want: "task 6: its parent 0 is missing"},
		{name: "its own parent", all: []*pstree.PstreeEntry{process(5, 5, 5, 5)}, want: "task 5: its parent 5 is missing"},
		{name: "a thread as parent", all: []*pstree.PstreeEntry{process(5, 0, 5, 5, 5, 6), process(7, 6, 5, 5)}, want: "task 7: its parent 6 is missing"},
		{name: "too many threads", all: []*pstree.PstreeEntry{process(5, 0, 5, 5, make([]uint32, maxThreads+1)...)}, want: "too many tasks or threads"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := &tree{byPID: map[uint32]*task{}}
			var err error
			for _, e := range c.all {
				if err = tr.add(e); err != nil {
					break
				}
			}
			wantError(t, err, c.want)
		})
	}
}

func TestRead(t *testing.T) {
	tr, p, err := planOf(sleep(t))
	must(t, err)
	if len(tr.tasks) != 1 || tr.root.pid != sleepPID || tr.root.zombie || tr.nfds != len(tr.root.fds) {
		t.Fatalf("not the tree: %+v", tr.root)
	}
	if got := tr.root.String(); got != "task 343 (sleep)" {
		t.Errorf("it is called %q", got)
	}
	for _, e := range tr.root.fds {
		if users := p.Users(e.id); len(users) == 0 {
			t.Errorf("descriptor %d is used by nobody", e.fd)
		}
	}
}

// What criu writes as threads of a task that has ended is of no meaning.
func TestReadZombie(t *testing.T) {
	s := sleep(t)
	put(t, s, image.PsTree, []*pstree.PstreeEntry{process(sleepPID, 0, sleepPID, sleepPID), process(344, sleepPID, sleepPID, sleepPID, 0, 77, 1<<31)})
	c, err := image.ReadOne[*criu_core.CoreEntry](s, image.Core, sleepPID)
	must(t, err)
	c.Tc.TaskState = proto.Uint32(taskDead)
	put(t, s, image.Core, []*criu_core.CoreEntry{c}, 344)
	tr, _, err := planOf(s)
	must(t, err)
	z := tr.byPID[344]
	if !z.zombie || len(z.threads) != 1 || z.threads[0] != 344 {
		t.Fatalf("threads %v", z.threads)
	}
	if tr.byPID[77] != nil {
		t.Error("a number that means nothing is in use")
	}
	c.Tc.TaskState = proto.Uint32(taskAlive)
	put(t, s, image.Core, []*criu_core.CoreEntry{c}, 344)
	_, _, err = planOf(s)
	wantError(t, err, "task 344: its first thread is not itself")
}

// Every zombie is a task with no children, however the images put it.
func TestReadChildOfZombie(t *testing.T) {
	s := sleep(t)
	put(t, s, image.PsTree, []*pstree.PstreeEntry{process(343, 0, 343, 343), process(344, 343, 343, 343)})
	s["core-344.img"] = s["core-343.img"]
	for _, n := range []string{"ids", "fs", "mm", "pagemap"} {
		s[n+"-344.img"] = s[n+"-343.img"]
	}
	alter(t, s, func(c *criu_core.CoreEntry) { c.Tc.TaskState = proto.Uint32(taskDead) }, image.Core, 343)
	_, _, err := planOf(s)
	wantError(t, err, "task 343 (sleep): it has ended, and can't be the parent of task 344")
}

func TestReadBroken(t *testing.T) {
	table := func(t *testing.T, s memory, change func([]*fdinfo.FdinfoEntry) []*fdinfo.FdinfoEntry) {
		all, err := image.ReadAll[*fdinfo.FdinfoEntry](s, image.FdInfo, 2)
		must(t, err)
		put(t, s, image.FdInfo, change(all), 2)
	}
	for _, c := range []struct {
		name  string
		spoil func(*testing.T, memory)
		want  string
	}{
		{"no inventory", func(t *testing.T, s memory) { delete(s, "inventory.img") }, "inventory.img"},
		{"a newer version", func(t *testing.T, s memory) {
			alter(t, s, func(e *inventory.InventoryEntry) { e.ImgVersion = proto.Uint32(99) }, image.Inventory)
		}, "version 99 is too new"},
		{"no tree", func(t *testing.T, s memory) { delete(s, "pstree.img") }, "pstree.img"},
		{"an empty tree", func(t *testing.T, s memory) { s["pstree.img"] = s["pstree.img"][:8] }, "pstree.img: no task in it"},
		{"no core", func(t *testing.T, s memory) { delete(s, "core-343.img") }, "core-343.img"},
		{"core of a thread", func(t *testing.T, s memory) {
			alter(t, s, func(c *criu_core.CoreEntry) { c.Tc = nil }, image.Core, 343)
		}, "core-343.img: the entry of a process is missing"},
		{"a thread without core", func(t *testing.T, s memory) {
			put(t, s, image.PsTree, []*pstree.PstreeEntry{process(343, 0, 343, 343, 343, 400)})
		}, "core-400.img"},
		{"another state", func(t *testing.T, s memory) {
			alter(t, s, func(c *criu_core.CoreEntry) { c.Tc.TaskState = proto.Uint32(77) }, image.Core, 343)
		}, "task state 77 is not one"},
		{"no ids", func(t *testing.T, s memory) { delete(s, "ids-343.img") }, "ids-343.img"},
		{"no fs", func(t *testing.T, s memory) { delete(s, "fs-343.img") }, "fs-343.img"},
		{"no mm", func(t *testing.T, s memory) { delete(s, "mm-343.img") }, "mm-343.img"},
		{"a descriptor twice", func(t *testing.T, s memory) {
			table(t, s, func(all []*fdinfo.FdinfoEntry) []*fdinfo.FdinfoEntry { return append(all, all[0]) })
		}, "fdinfo-2.img: descriptor 0 is there twice"},
		{"a large descriptor", func(t *testing.T, s memory) {
			table(t, s, func(all []*fdinfo.FdinfoEntry) []*fdinfo.FdinfoEntry {
				all[0].Fd = proto.Uint32(maxFD + 1)
				return all
			})
		}, "fdinfo-2.img: descriptor 1073741825 is there twice or can't be"},
		{"a descriptor of no file", func(t *testing.T, s memory) {
			table(t, s, func(all []*fdinfo.FdinfoEntry) []*fdinfo.FdinfoEntry {
				all[0].Id = proto.Uint32(0xabc)
				return all
			})
		}, "files.img: file 0xabc is missing, task 343 (sleep) has it open"},
		{"no files", func(t *testing.T, s memory) { delete(s, "files.img") }, "is missing, task 343 (sleep)"},
		{"a file twice", func(t *testing.T, s memory) {
			all, err := image.ReadAll[*fdinfo.FileEntry](s, image.Files)
			must(t, err)
			put(t, s, image.Files, append(all, all[0]))
		}, "is there twice"},
		{"a file of no type", func(t *testing.T, s memory) {
			put(t, s, image.Files, []*fdinfo.FileEntry{{Type: fdinfo.FdTypes_UND.Enum(), Id: proto.Uint32(1)}})
		}, "files.img: file 0x1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sleep(t)
			c.spoil(t, s)
			_, _, err := planOf(s)
			wantError(t, err, c.want)
		})
	}
}

// A file that is cut anywhere is refused, or what is left is a whole one.
func TestReadCut(t *testing.T) {
	good := sleep(t)
	for name, b := range good {
		if strings.HasPrefix(name, "pages") || strings.HasPrefix(name, "stats") || strings.HasPrefix(name, "timens") {
			continue
		}
		for n := 0; n < len(b); n += 1 + len(b)/256 {
			s := maps.Clone(good)
			s[name] = b[:n]
			if _, _, err := planOf(s); err == nil && n > 8 && name != "files.img" && name != "pagemap-343.img" && name != "fdinfo-2.img" {
				t.Errorf("%s of %d bytes, not %d, is taken", name, n, len(b))
			}
		}
	}
}

// In a directory as in memory.
func TestReadDir(t *testing.T) {
	d, err := image.OpenDir(t.TempDir())
	must(t, err)
	defer d.Close()
	for name, b := range sleep(t) {
		f, err := d.Create(name)
		must(t, err)
		_, err = f.Write(b)
		must(t, err)
		must(t, f.Close())
	}
	_, _, err = planOf(d)
	must(t, err)
}

func TestWantClocks(t *testing.T) {
	var now unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &now))
	entry := func(sec uint64) *timens.TimensEntry {
		at := &timens.Timespec{TvSec: &sec, TvNsec: proto.Uint64(7)}
		return &timens.TimensEntry{Monotonic: at, Boottime: at}
	}
	for _, c := range []struct {
		name       string
		root, host uint32 // time namespaces
		sec        uint64 // 0: no image
		want       bool
	}{
		{"no image", 0, 0, 0, false},
		{"time has passed", 0, 0, 1, false},
		{"the same namespace", 9, 9, 1, false},
		{"another boot", 0, 0, uint64(now.Sec) + 1e6, true},
		{"another boot, the same namespace", 9, 9, uint64(now.Sec) + 1e6, true},
		{"a namespace of its own", 9, 8, 1, true},
		{"a namespace of its own without image", 9, 8, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := memory{}
			id := uint32(0)
			if c.root != c.host {
				id = c.root
			}
			if c.sec != 0 {
				put(t, s, image.Timens, []*timens.TimensEntry{entry(c.sec)}, id)
			}
			tr := treeOf(t, p{pid: 5, pgid: 5, sid: 5})
			tr.root.ids.TimeNsId, tr.inventory = &c.root, &inventory.InventoryEntry{RootIds: &criu_core.TaskKobjIdsEntry{TimeNsId: &c.host}}
			got, err := wantClocks(tr, s)
			must(t, err)
			if (got != nil) != c.want {
				t.Fatalf("got %v", got)
			}
			if got != nil && (got.Monotonic.Sec != int64(c.sec) || got.Boottime.Nsec != 7) {
				t.Errorf("got %v", got)
			}
		})
	}
	s := memory{}
	put(t, s, image.Timens, []*timens.TimensEntry{entry(1 << 50)}, 0)
	_, err := wantClocks(treeOf(t, p{pid: 5, pgid: 5, sid: 5}), s)
	wantError(t, err, "timens-0.img")
}

// FuzzRead flips bytes of each image of a good checkpoint.
func FuzzRead(f *testing.F) {
	good := sleep(f)
	names, _ := good.List()
	f.Add(uint8(0), uint16(20), uint8(0xff), uint16(0), uint8(0))
	for i, n := range names {
		if !strings.HasPrefix(n, "pages") {
			f.Add(uint8(i), uint16(len(good[n])/2), uint8(0x80), uint16(12), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, file uint8, at uint16, mask uint8, at2 uint16, mask2 uint8) {
		name := names[int(file)%len(names)]
		if strings.HasPrefix(name, "pages") {
			return
		}
		s := maps.Clone(good)
		b := append([]byte{}, good[name]...)
		b[int(at)%len(b)] ^= mask
		b[int(at2)%len(b)] ^= mask2
		s[name] = b
		tr, p, err := planOf(s)
		if err != nil {
			return
		}
		if _, err := wantClocks(tr, s); err != nil {
			return
		}
		if _, err := newFiles(p, &plan.Env{Store: s}); err != nil {
			t.Fatal("a plan whose files have no order: ", err)
		}
		_, _ = tr.transport(1 << 20)
	})
}

// Entries are used again, but not what they point to; and those that are wanted late are
// as those that are wanted at once.
func TestFileEntries(t *testing.T) {
	const many = 20_000
	s := memory{}
	none := uint32(0)
	owner := &fown.FownEntry{Uid: &none, Euid: &none, Signum: &none, PidType: &none, Pid: &none}
	all := make([]*fdinfo.FileEntry, many)
	for i := range all {
		id := uint32(i + 1)
		all[i] = &fdinfo.FileEntry{Type: fdinfo.FdTypes_EVENTFD.Enum(), Id: &id, Efd: &eventfd.EventfdFileEntry{Id: &id, Flags: &id, Fown: owner, Counter: proto.Uint64(7)}}
		if i%2 == 0 { // in which fewer fields are set
			all[i] = &fdinfo.FileEntry{Type: fdinfo.FdTypes_PIPE.Enum(), Id: &id}
		}
	}
	must(t, image.WriteAll(s, image.Files, all))
	entries := map[*fdinfo.FileEntry]bool{}
	var kept []*eventfd.EventfdFileEntry
	next := uint32(0)
	must(t, beginFiles(s).Each(func(e *fdinfo.FileEntry) error {
		if next++; e.GetId() != next || (e.Efd == nil) != (next%2 == 1) {
			t.Fatalf("entry %d: %v", next, e)
		}
		entries[e] = true
		if e.Efd != nil {
			kept = append(kept, e.Efd)
		}
		return nil
	}))
	for i, in := range kept {
		if want := uint32(2*i + 2); in.GetId() != want {
			t.Fatalf("what entry %d points to is of %d", want, in.GetId())
		}
	}
	if next != many || len(entries) >= many {
		t.Errorf("%d entries in the memory of %d", next, len(entries))
	}
}
