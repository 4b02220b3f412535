package restore

import "glis.dev/glis/internal/kind"

// Who wants a signal at its parent's end (PR_SET_PDEATHSIG) gets it when the thread
// ends that cloned it, or that has become its parent since. Inside the tree parents
// are there as long as their tasks. The root's is somebody else, and it may be a
// thread of ours:
//
//   - with --restore-detached we end, which is no parent's end that the root should
//     hear of: it has lost its parent before it asks for the signal (disowned);
//   - with --restore-sibling it is the thread that made us;
//   - else it is the tracer's thread, which then stays as long as we do
//     (tracee.RunAndStay);
//   - with --exec-cmd all our threads end but the one that executes.

// heeds tells whether any thread of the root wants a signal when its parent ends.
func (tr *tree) heeds() bool {
	for i := range tr.root.images {
		if tr.root.images[i].heeds {
			return true
		}
	}
	return false
}

// disowned tells whether the root is to lose its parent before it has anything to lose.
// It is not otherwise: who fails takes back what it has made, children at once.
func (r *restore) disowned() bool {
	return r.opts.Detach && !r.opts.Sibling && r.tree.heeds()
}

// parentStays tells whether the root must not outlive the tracer's thread.
func (r *restore) parentStays() bool {
	return !r.opts.Detach && !r.opts.Sibling && r.tree.heeds()
}

// checkParent refuses what can't have the parent that it would get.
func (r *restore) checkParent() error {
	if len(r.opts.ExecCmd) == 0 || !r.tree.heeds() {
		return nil
	}
	return kind.Unsupported(r.tree.root, "it wants a signal when its parent ends (PR_SET_PDEATHSIG), and would get it when the program of --exec-cmd takes Glis's place; restore it without --exec-cmd")
}
