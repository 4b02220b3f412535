package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/fdinfo"
	fsimg "glis.dev/glis/image/criu/fs"

	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/criu/seccomp"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/mem"
	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// Limits on what images may ask for, so that broken ones can't exhaust the
// machine before they are found out.
const (
	maxTasks   = 1 << 16
	maxThreads = 1 << 17
	maxPID     = 1 << 22 // PID_MAX_LIMIT, include/linux/threads.h
	maxFD      = 1 << 30
)

// task is a process as the images have it, and what became of it.
type task struct {
	pid, ppid, pgid, sid uint32
	threads              []uint32 // the leader first
	parent               *task
	children             []*task
	zombie               bool
	images               []thread // of the threads, in the same order
	ids                  *criu_core.TaskKobjIdsEntry
	fs                   *fsimg.FsEntry
	fds                  []descriptor
	space                *mem.Space
	signal               unix.Signal // that ends batches
	room                 uint64      // that its facets need beside the usual, once checked

	comm       string
	state      uint32 // StateAlive and so on
	badThreads bool   // the image does not say what threads it has

	birth   birth
	live    *live
	entered bool // it has its root and working directory already
}

// descriptor is one of a task's. There may be very many.
type descriptor struct {
	id    plan.ID // of its file
	fd    int32
	flags uint32 // FD_CLOEXEC
}

func (t *task) String() string { return fmt.Sprintf("task %d (%s)", t.pid, t.comm) }

// tree is everything a restore is about, from images alone.
type tree struct {
	inventory *inventory.InventoryEntry
	root      *task
	tasks     []*task // parents before children
	byPID     map[uint32]*task
	afar      []*task // that are cloned when all others are there, in this order
	lenders   []*task // in which order they leave the groups with their numbers
	nfds      int
	watched   int // how many descriptors files of epoll have, once planned

	shelf  *shelf  // of entries that are not kept in memory; nil: all are
	leader *thread // the leader that was read from there last
}

// close gives back what the tree has beside memory. There may be no tree.
func (tr *tree) close() {
	if tr != nil {
		tr.shelf.close()
	}
}

// spaces returns the address spaces of all living tasks.
func (tr *tree) spaces() []*mem.Space {
	var out []*mem.Space
	for _, t := range tr.tasks {
		if !t.zombie {
			out = append(out, t.space)
		}
	}
	return out
}

// read turns images into a tree; it checks what later stages rely on.
func read(s image.Store) (*tree, error) {
	inv, err := image.ReadInventory(s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, image.NotWhole(s, err)
	}
	if err != nil {
		return nil, err
	}
	if _, err := image.ReadOptional[*seccomp.SeccompEntry](s, image.Seccomp); err != nil {
		return nil, err
	}
	entries, err := image.ReadAll[*pstree.PstreeEntry](s, image.PsTree)
	if err != nil {
		return nil, err
	}
	tr := &tree{byPID: map[uint32]*task{}, inventory: inv}
	for _, e := range entries {
		if err := tr.add(e); err != nil {
			return nil, fmt.Errorf("pstree.img: %w", err)
		}
	}
	if tr.root == nil {
		return nil, errors.New("pstree.img: no task in it")
	}
	return tr, tr.readTasks(s)
}

// fileEntries are the open files of a checkpoint. There may be very many, of which
// some are decoded before they are wanted, not all, and into those that nobody wants
// any more.
type fileEntries struct {
	*par.Coming[*fdinfo.FileEntry]
	spent *sync.Pool
}

// beginFiles begins to decode them. Somebody must want them, or Stop it.
func beginFiles(s image.Store) fileEntries {
	spent := &sync.Pool{New: func() any { return new(fdinfo.FileEntry) }}
	fresh := func() proto.Message { return spent.Get().(*fdinfo.FileEntry) }
	return fileEntries{par.Begin(func(f func(*fdinfo.FileEntry) error) error {
		err := image.EachIn(s, image.Files, fresh, f)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // criu writes none if there are none
		}
		return err
	}), spent}
}

// Each calls f for each, in order, which may keep what an entry points to, but not the
// entry.
func (files fileEntries) Each(f func(*fdinfo.FileEntry) error) error {
	return files.Coming.Each(func(e *fdinfo.FileEntry) error {
		err := f(e)
		*e = fdinfo.FileEntry{}
		files.spent.Put(e)
		return err
	})
}

// expected is how many open files a task has, about: their numbers are small, one
// after the other.
func (tr *tree) expected() int {
	most := 0
	for _, t := range tr.tasks {
		for _, e := range t.fds {
			most = max(most, int(uint32(e.id)))
		}
	}
	return min(most, 2*tr.nfds) + 2*len(tr.tasks)
}

// readTasks reads the images of all tasks and threads, on all CPUs.
func (tr *tree) readTasks(s image.Store) error {
	var common common
	common.many = len(tr.tasks) >= manyTasks
	if common.many {
		var err error
		if tr.shelf, err = newShelf(); err != nil {
			return err
		}
		common.shelf = tr.shelf
	}
	if err := par.Do(len(tr.tasks), func(i int) error { return readTask(s, tr.tasks[i], &common) }); err != nil {
		return err
	}
	if err := tr.readTables(s); err != nil {
		return err
	}
	var threads []*thread
	for _, t := range tr.tasks {
		tr.nfds += len(t.fds)
		for i := range t.images {
			if !t.zombie && t.images[i].shelf == nil {
				threads = append(threads, &t.images[i])
			}
		}
	}
	if err := par.Do(len(threads), func(i int) error { return threads[i].read(s, len(threads) < manyThreads && !common.many, tr.shelf) }); err != nil {
		return err
	}
	return tr.chooseSignals()
}

// chooseSignals picks what ends the batches of each task: not a signal that is
// to wait for it, since the next batch would take that for its own.
func (tr *tree) chooseSignals() (err error) {
	for _, t := range tr.tasks {
		waiting := uint64(0)
		for i := range t.images {
			waiting |= t.images[i].waiting
		}
		if t.signal, err = remote.ChooseSignal(0, 0, waiting); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

func (tr *tree) add(e *pstree.PstreeEntry) error {
	t := &task{pid: e.GetPid(), ppid: e.GetPpid(), pgid: e.GetPgid(), sid: e.GetSid(), threads: e.GetThreads()}
	switch {
	case len(tr.tasks) >= maxTasks || len(t.threads) > maxThreads:
		return fmt.Errorf("too many tasks or threads")
	case t.pid == 0 || t.pid > maxPID || t.pgid > maxPID || t.sid > maxPID:
		return fmt.Errorf("task %d: no such number can be (group %d, session %d)", t.pid, t.pgid, t.sid)
	case len(t.threads) == 0:
		t.threads = []uint32{t.pid}
	case t.threads[0] != t.pid:
		// criu writes anything there for a task that has ended.
		t.badThreads, t.threads = true, []uint32{t.pid}
	}
	for _, tid := range t.threads {
		if tid == 0 || tid > maxPID || tr.byPID[tid] != nil {
			return fmt.Errorf("task %d: number %d is there twice or can't be", t.pid, tid)
		}
		tr.byPID[tid] = t
	}
	t.images = make([]thread, len(t.threads))
	for i, tid := range t.threads {
		t.images[i] = thread{task: t, tid: tid}
	}
	if t.parent = tr.byPID[t.ppid]; t.parent != nil && t.parent.pid != t.ppid {
		t.parent = nil // a thread of it
	}
	switch {
	case tr.root == nil && t.parent == nil:
		tr.root = t
	case t.parent == nil || t.parent == t:
		return fmt.Errorf("task %d: its parent %d is missing", t.pid, t.ppid)
	default:
		t.parent.children = append(t.parent.children, t)
	}
	tr.tasks = append(tr.tasks, t)
	return nil
}

// common is what the tasks of a tree have in common while they are read.
type common struct {
	many   bool // tasks
	shelf  *shelf
	spaces mem.Alike
	first  atomic.Pointer[criu_core.CoreEntry] // of whichever task
}

func readTask(s image.Store, t *task, all *common) error {
	c, err := image.ReadOne[*criu_core.CoreEntry](s, image.Core, t.pid)
	if err != nil {
		return err
	}
	t.images[0].core, t.images[0].set = c, setOf(c)
	if c.GetTc() == nil {
		return fmt.Errorf("%s: the entry of a process is missing in it", image.Core.FileName(t.pid))
	}
	if !all.many && !all.first.CompareAndSwap(nil, c) {
		facets.ShareActions(c, all.first.Load())
	}
	t.comm, t.state = c.GetTc().GetComm(), c.GetTc().GetTaskState()
	switch state := t.state; state {
	case taskDead:
		t.zombie = true
		return nil
	case taskAlive, taskStopped:
		if t.badThreads {
			return fmt.Errorf("pstree.img: task %d: its first thread is not itself", t.pid)
		}
	default:
		return fmt.Errorf("%s: task state %d is not one that Glis can restore", image.Core.FileName(t.pid), state)
	}
	return readLiving(s, t, all)
}

// States of a task in images (criu's TASK_ALIVE and so on).
const (
	taskAlive   = facets.StateAlive
	taskDead    = facets.StateDead
	taskStopped = facets.StateStopped
)

func readLiving(s image.Store, t *task, all *common) error {
	var err error
	if t.ids, err = readIDs(s, t); err != nil {
		return err
	}
	if t.fs, err = image.ReadOne[*fsimg.FsEntry](s, image.FS, t.pid); err != nil {
		return err
	}
	if t.space, err = all.spaces.Read(s, t.pid); err != nil || !all.many {
		return err
	}
	t.space.Keep()
	return t.images[0].read(s, false, all.shelf)
}

// readTables reads every table of descriptors once, whoever shares it.
func (tr *tree) readTables(s image.Store) error {
	tables := map[uint32][]descriptor{}
	for _, t := range tr.tasks {
		if t.zombie {
			continue
		}
		id := t.ids.GetFilesId()
		if _, ok := tables[id]; !ok {
			var err error
			if tables[id], err = readTable(s, id); err != nil {
				return err
			}
		}
		t.fds = tables[id]
	}
	return nil
}

func readTable(s image.Store, id uint32) ([]descriptor, error) {
	var fds []descriptor
	var e fdinfo.FdinfoEntry
	var decoder proto.Decoder
	var wrong error
	numbers := newFDTable()
	err := image.EachRaw(s, image.FdInfo, func(b []byte) error {
		e.Reset()
		if err := decoder.Unmarshal(b, &e); err != nil {
			return err
		}
		if e.GetFd() > maxFD || numbers.has(int32(e.GetFd())) {
			wrong = fmt.Errorf("%s: descriptor %d is there twice or can't be", image.FdInfo.FileName(id), e.GetFd())
			return wrong
		}
		numbers.take(int32(e.GetFd()))
		fds = append(fds, descriptor{plan.ID(e.GetId()), int32(e.GetFd()), e.GetFlags()})
		return nil
	}, id)
	if wrong != nil {
		return nil, wrong
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // criu writes none if there are none
	}
	return fds, err
}

// readIDs reads what a task shares; older images have it in the core entry.
func readIDs(s image.Store, t *task) (*criu_core.TaskKobjIdsEntry, error) {
	ids, err := image.ReadOne[*criu_core.TaskKobjIdsEntry](s, image.Ids, t.pid)
	if own := t.images[0].core.GetIds(); errors.Is(err, fs.ErrNotExist) && own != nil {
		return own, nil
	}
	return ids, err
}

// Images returns what hands the images of a store to kinds while they plan.
func Images(s image.Store) plan.Source { return &source{store: s} }

type source struct {
	store    image.Store
	payloads atomic.Int64 // bytes that were read
}

// Payloads are kept in memory as long as they are few: up to fewPayloads bytes, and up to
// somePayloads those that are short. Tiny ones take less than to say where they are.
const (
	fewPayloads  = 4 << 20
	somePayloads = 24 << 20
	shortPayload = 16 << 10
	tinyPayload  = 1 << 10
)

// stays tells whether a payload is left in its file.
func (s *source) stays(n int64) bool {
	sum := s.payloads.Load() + n
	if sum > fewPayloads && n >= shortPayload || sum > somePayloads && n >= tinyPayload {
		return true
	}
	s.payloads.Add(n)
	return false
}

// staysAlone is stays for a payload that is alone in its file, of which there may be
// thousands beside all that is known of their connections.
func (s *source) staysAlone(n int64) bool {
	return n >= lonePayload && s.payloads.Load()+n > fewPayloads || s.stays(n)
}

// lonePayload is how long such a one is at least.
const lonePayload = 256

// Entries implements plan.Source.
func (s *source) Entries(row *image.Row, ids ...uint32) ([]plan.Entry, error) {
	rd, err := image.Open(s.store, row, ids...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	return s.all(rd, row)
}

// Singles implements plan.Singles.
func (s *source) Singles(row *image.Row) func(uint32) (plan.Entry, error) {
	all := image.NewSingles(s.store, row, s.staysAlone)
	return func(id uint32) (plan.Entry, error) {
		m, payload, far, err := all.Read(id)
		return plan.Entry{Message: m, Payload: payload, Far: far}, err
	}
}

// Raw implements plan.Raw.
func (s *source) Raw(row *image.Row, f func(entry []byte) error) error {
	err := image.EachRaw(s.store, row, f)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// maxPayload is the most raw bytes that one entry may bring along when it is
// read into memory.
const maxPayload = 64 << 20

func (s *source) all(rd *image.Reader, row *image.Row) ([]plan.Entry, error) {
	var out []plan.Entry
	for {
		m, err := rd.NextAny()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		e := plan.Entry{Message: m}
		if row.Payload != nil {
			if e.Payload, e.Far, err = rd.PayloadIn(s.store, maxPayload, s.stays); err != nil {
				return nil, err
			}
		}
		out = append(out, e)
	}
}
