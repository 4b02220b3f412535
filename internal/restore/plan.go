package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/kinds"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/options"
)

// makePlan decides from images alone how the tree comes back, and refuses
// what can't. No process exists yet.
func makePlan(tr *tree, store image.Store, files fileEntries, o *options.Restore, set *kinds.Set, env *plan.CheckEnv) (*plan.Plan, error) {
	if err := tr.planBirths(o); err != nil {
		return nil, err
	}
	tr.planElders()
	if err := tr.checkSharing(); err != nil {
		return nil, err
	}
	p := plan.New(Images(store), o)
	p.Expect(tr.expected())
	if err := planEach(p, tr, set, files.Each); err != nil {
		return nil, err
	}
	for _, g := range p.LeftOver() {
		env.Log.Warn("The images have no such file, or one that can't be handed in", "option", fmt.Sprintf("--inherit-fd fd[%d]:%s", g.FD, g.Key))
	}
	planUses(p, tr)
	if _, err := p.Nodes(); err != nil {
		return nil, err
	}
	wantHuge(tr, env)
	return p, errors.Join(checkUses(p, tr), checkFiles(p, env), check(tr, set, env), set.PlanLocks(p))
}

// planEach plans all files that each calls its argument with.
func planEach(p *plan.Plan, tr *tree, set *kinds.Set, each func(func(*fdinfo.FileEntry) error) error) error {
	defer p.Beside.Wait()
	byType := map[fdinfo.FdTypes]kind.File{}
	for _, k := range set.Files {
		if byType[k.Type()] == nil {
			byType[k.Type()] = k
		}
	}
	err := each(func(e *fdinfo.FileEntry) error {
		k := byType[e.GetType()]
		if k == nil {
			return fmt.Errorf("files.img: file %#x is a %v: %w", e.GetId(), e.GetType(), kind.ErrUnsupported)
		}
		tr.watched += len(e.GetEpfd().GetTfd())
		if err := k.Plan(p, e); err != nil {
			return fmt.Errorf("files.img: file %#x (%v): %w", e.GetId(), e.GetType(), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range set.Files {
		if p, ok := k.(kind.Planner); ok {
			if err := p.Planned(); err != nil {
				return fmt.Errorf("files.img: %w", err)
			}
		}
	}
	return nil
}

// wantHuge counts the huge pages that memory needs.
func wantHuge(tr *tree, env *plan.CheckEnv) {
	for _, t := range tr.tasks {
		if !t.zombie {
			t.space.WantHuge(&env.Huge, t.forkOf())
		}
	}
}

// planUses records which task has which file as which descriptor.
func planUses(p *plan.Plan, tr *tree) {
	for _, t := range tr.tasks {
		if t.zombie || t.sharesFiles() {
			continue
		}
		for _, e := range t.fds {
			p.Use(e.id, plan.Use{Task: t.pid, FD: e.fd, Cloexec: e.flags&unix.FD_CLOEXEC != 0})
		}
	}
}

// checkUses makes sure that every file that is used is there.
func checkUses(p *plan.Plan, tr *tree) error {
	for _, t := range tr.tasks {
		if t.zombie {
			continue
		}
		ids := []uint32{t.fs.GetCwdId(), t.fs.GetRootId(), t.space.Entry.GetExeFileId()}
		for _, e := range t.fds {
			ids = append(ids, uint32(e.id))
		}
		for _, u := range t.space.Files() {
			ids = append(ids, uint32(u.ID))
		}
		for _, id := range ids {
			if p.Node(plan.ID(id)) == nil {
				return fmt.Errorf("files.img: file %#x is missing, %v has it open", id, t)
			}
		}
	}
	return nil
}

// checkFiles asks the files whether they can be made.
func checkFiles(p *plan.Plan, env *plan.CheckEnv) error {
	nodes, err := p.Nodes()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if c, ok := n.(plan.Checked); ok {
			if err := c.Check(env); err != nil {
				return err
			}
		}
	}
	return nil
}

// check asks the facets whether they can do what the images want.
func check(tr *tree, set *kinds.Set, env *plan.CheckEnv) error {
	if err := mem.CheckVdso(tr.spaces()...); err != nil {
		return err
	}
	for _, t := range tr.tasks {
		if t.zombie {
			continue
		}
		env.Room.Store(0)
		err := par.Do(len(t.threads), func(i int) error {
			facets := set.Thread
			if i == 0 {
				facets = set.All()
			}
			th, err := t.images[i].whole()
			if err != nil {
				return err
			}
			return checkThread(facets, env, th.core)
		})
		if err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		t.room = uint64(env.Room.Load())
	}
	return nil
}

func checkThread(facets []kind.Facet, env *plan.CheckEnv, core *criu_core.CoreEntry) error {
	for _, f := range facets {
		if c, ok := f.(kind.Checker); ok {
			if err := c.Check(env, core); err != nil {
				return fmt.Errorf("%s: %w", f.Name(), err)
			}
		}
	}
	return nil
}
