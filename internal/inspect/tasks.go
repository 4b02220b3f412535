package inspect

import (
	"errors"
	"fmt"
	"io/fs"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/creds"
	core "glis.dev/glis/image/criu/criu-core"
	fsimg "glis.dev/glis/image/criu/fs"
	"glis.dev/glis/image/criu/pstree"
)

// States of tasks as they are printed.
const (
	stateRunning = "running"
	stateStopped = "stopped"
	stateZombie  = "zombie"
)

// readTree reads who there is.
func (r *reader) readTree() error {
	err := each(r, image.PsTree, nil, r.treeEntry)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no tasks in %s, it holds a pre-dump or a dump that failed: %w", r.store, err)
	}
	if err == nil && len(r.rep.Tasks) == 0 {
		err = &image.Error{File: image.PsTree.FileName(), Offset: -1, Err: errors.New("there is no task in it")}
	}
	return err
}

func (r *reader) treeEntry(e *pstree.PstreeEntry) error {
	t := &Task{PID: e.GetPid(), Parent: e.GetPpid(), Group: e.GetPgid(), Session: e.GetSid()}
	switch {
	case t.PID == 0 || t.PID > mostPID:
		return fmt.Errorf("%d is no PID", t.PID)
	case r.tasks[t.PID] != nil:
		return fmt.Errorf("task %d is listed twice", t.PID)
	case t.Parent != 0 && r.tasks[t.Parent] == nil:
		return fmt.Errorf("task %d comes before its parent %d", t.PID, t.Parent)
	}
	for _, tid := range e.GetThreads() {
		t.Threads = append(t.Threads, Thread{TID: tid})
	}
	r.tasks[t.PID] = t
	r.rep.Tasks = append(r.rep.Tasks, t)
	return r.spend(len(t.Threads))
}

// readTasks reads the cores of all tasks. They come before the files, whose
// flags mean what they mean on the tasks' machine.
func (r *reader) readTasks() error {
	for _, t := range r.rep.Tasks {
		if err := r.readTask(t); err != nil {
			return err
		}
	}
	r.rep.TaskCount = len(r.rep.Tasks)
	return nil
}

// readParts reads all else that belongs to one task, for all tasks.
func (r *reader) readParts() error {
	for _, t := range r.rep.Tasks {
		if t.ids == nil {
			continue
		}
		if err := r.parts(t, t.ids); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) readTask(t *Task) error {
	c, err := one[*core.CoreEntry](r, image.Core, t.PID)
	if err != nil {
		return err
	}
	if err := r.head(t, c); err != nil {
		return &image.Error{File: image.Core.FileName(t.PID), Offset: -1, Err: err}
	}
	if !t.alive() {
		// criu 4.2 writes any number as the one thread of a zombie.
		r.rep.ZombieCount++
		t.Threads = nil
		return nil
	}
	for i := range t.Threads {
		if err := r.readThread(t, &t.Threads[i]); err != nil {
			return err
		}
	}
	r.rep.ThreadCount += len(t.Threads)
	t.ids = c.GetIds()
	err = optional(r, image.Ids, []uint32{t.PID}, func(e *core.TaskKobjIdsEntry) error { t.ids = e; return nil })
	if err == nil && t.ids == nil {
		err = &image.Error{File: image.Core.FileName(t.PID), Offset: -1, Err: fmt.Errorf("neither it nor %s says which files the task has", image.Ids.FileName(t.PID))}
	}
	return err
}

// head takes over what a core says about a task as a whole.
func (r *reader) head(t *Task, c *core.CoreEntry) error {
	tc := c.GetTc()
	if tc == nil {
		return errors.New("it describes no task")
	}
	t.Name = tc.GetComm()
	t.State = taskState(tc.GetTaskState())
	switch t.State {
	case stateZombie:
		t.Exit = exitWords(tc.GetExitCode())
	case stateStopped:
		if n := tc.GetStopSigno(); n != 0 {
			t.StopSignal = signalWord(int(min(n, 1<<16)))
		}
	}
	// Tasks that have ended have no machine of their own.
	if t.alive() && r.rep.Machine == "" {
		r.mtype = int32(c.GetMtype())
		r.rep.Machine = machineWord(r.mtype)
	}
	seccomp := tc.GetOldSeccompMode()
	th := c.GetThreadCore()
	if th != nil && th.SeccompMode != nil {
		seccomp = th.GetSeccompMode()
	}
	t.Seccomp = seccompWord(int32(seccomp))
	t.UID, t.GID = th.GetCreds().GetUid(), th.GetCreds().GetGid()
	return checkName(t.Name)
}

func (r *reader) readThread(t *Task, th *Thread) error {
	if th.TID == 0 || th.TID > mostPID || r.tids[th.TID] {
		return &image.Error{File: image.PsTree.FileName(), Offset: -1, Err: fmt.Errorf("thread %d of task %d is no TID, or listed twice", th.TID, t.PID)}
	}
	r.tids[th.TID] = true
	if th.TID == t.PID {
		th.Name = t.Name
		return nil
	}
	c, err := one[*core.CoreEntry](r, image.Core, th.TID)
	if err != nil {
		return err
	}
	th.Name = c.GetThreadCore().GetComm()
	if err := checkName(th.Name); err != nil {
		return &image.Error{File: image.Core.FileName(th.TID), Offset: -1, Err: err}
	}
	return nil
}

// parts reads what the ids of a task lead to.
func (r *reader) parts(t *Task, ids *core.TaskKobjIdsEntry) error {
	t.Namespaces = r.namespaces(ids)
	err := optional(r, image.Creds, []uint32{t.PID}, func(e *creds.CredsEntry) error {
		t.UID, t.GID = e.GetUid(), e.GetGid()
		return nil
	})
	if err != nil {
		return err
	}
	err = optional(r, image.FS, []uint32{t.PID}, func(e *fsimg.FsEntry) error {
		t.Cwd, t.Root, t.Umask = r.path(e.GetCwdId()), r.path(e.GetRootId()), e.Umask
		return nil
	})
	if err != nil {
		return err
	}
	if first := r.spaces[ids.GetVmId()]; first != nil {
		t.MemoryOf = first.PID
	} else {
		r.spaces[ids.GetVmId()] = t
		if err := r.readMemory(t); err != nil {
			return err
		}
	}
	if first := r.tables[ids.GetFilesId()]; first != nil {
		t.DescriptorsOf = first.PID
		return nil
	}
	r.tables[ids.GetFilesId()] = t
	return r.readTable(t, ids.GetFilesId())
}

// namespaces names the namespaces that are the checkpoint's own: those have
// images, while those of the surroundings have none.
func (r *reader) namespaces(ids *core.TaskKobjIdsEntry) []string {
	var own []string
	for _, ns := range []struct {
		word string
		row  *image.Row
		id   *uint32
	}{
		{"pid", image.PidNS, ids.PidNsId}, {"net", image.NetNS, ids.NetNsId}, {"ipc", image.IPCVar, ids.IpcNsId},
		{"uts", image.UTSNS, ids.UtsNsId}, {"mnt", image.Mounts, ids.MntNsId}, {"user", image.UserNS, ids.UserNsId},
	} {
		if ns.id == nil {
			continue
		}
		f, err := r.store.Open(ns.row.FileName(*ns.id))
		if err != nil {
			continue
		}
		_ = f.Close() // its being there is all that matters
		own = append(own, ns.word)
	}
	return own
}

// path is the name of a regular file or directory by its id.
func (r *reader) path(id uint32) string {
	f := r.files[fileKey{typeReg, id}]
	if f == nil {
		return ""
	}
	return f.Name
}
