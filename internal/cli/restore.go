package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"glis.dev/glis/options"
)

// restore brings a process tree back. If it stays until the root process has
// ended, its exit status becomes that process's.
func (a *App) restore(c *call) int {
	o, ok := c.settings.(*options.Restore)
	if !ok {
		return a.fail(c.verb.name, fmt.Errorf("settings of type %T", c.settings))
	}
	o.ExecCmd = c.words
	if err := restoreConflicts(o); err != nil {
		return a.fail(c.verb.name, err)
	}
	if err := a.checkPrivileges(c.verb.name, o.Unprivileged); err != nil {
		return a.fail(c.verb.name, err)
	}
	s, ok := a.open(c, &o.Common, reads)
	if !ok {
		return exitError
	}
	if has(c.given, "network-lock") {
		s.log.Warn("--network-lock says nothing to restore: the method of the dump is taken")
	}
	if o.Detach && o.LeaveStopped && o.ShellJob {
		s.log.Warn("A stopped shell job without its parent gets SIGHUP from the kernel")
	}
	return a.restoreIn(s, o)
}

// restoreConflicts refuses options that exclude each other.
func restoreConflicts(o *options.Restore) error {
	switch {
	case o.Sibling && !o.Detach:
		return errors.New("--restore-sibling only makes sense with --restore-detached")
	case len(o.ExecCmd) > 0 && o.Detach:
		return errors.New("--restore-detached and --exec-cmd cannot be used together")
	}
	return nil
}

// restoreIn restores, and then waits or becomes another program.
func (a *App) restoreIn(s *session, o *options.Restore) int {
	p := a.progress(s.stage, s.quiet())
	r, err := a.Engine.Restore(s.ctx, o, s.log, append(p.observers(), scripts(&o.Common, o.Scripts, s.log)...))
	p.end()
	if err != nil {
		return s.fail(stopped(s.ctx, err), "Restoring FAILED.")
	}
	// From here on the processes live their own lives: a signal ends Glis as
	// it ends criu, and nothing is taken back. One that came when it was too
	// late to take anything back does so, too.
	var late os.Signal
	stays := len(o.ExecCmd) > 0 || o.Waits()
	if stays {
		late = s.stop()
	}
	s.log.Info("Restore finished successfully. Tasks resumed.")
	if o.Stats {
		printRestoreStats(a.Stdout, r.Stats)
	}
	flush(s.log, s.stop)
	if stays {
		endBy(late)
	}
	status := exitOK
	switch {
	case len(o.ExecCmd) > 0:
		err = a.System.Exec(o.WorkDir, o.ExecCmd)
	case o.Waits() && r.Wait != nil:
		status, err = r.Wait()
	}
	if err != nil {
		return s.fail(err, "")
	}
	s.close()
	return status
}

// printRestoreStats prints the figures in criu's words.
func printRestoreStats(w io.Writer, s RestoreStats) {
	fmt.Fprintln(w, "Displaying restore stats:")
	printPages(w, "Pages compared", s.PagesCompared)
	printPages(w, "Pages skipped COW", s.PagesSkippedCow)
	printPages(w, "Pages restored", s.PagesRestored)
	fmt.Fprintf(w, "Restore time: %d us\n", s.RestoreTime)
	fmt.Fprintf(w, "Forking time: %d us\n", s.ForkingTime)
}
