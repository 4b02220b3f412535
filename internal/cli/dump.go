package cli

import (
	"errors"
	"fmt"
	"io"

	"glis.dev/glis/options"
)

// dump saves a process tree.
func (a *App) dump(c *call) int {
	o, ok := c.settings.(*options.Dump)
	if !ok {
		return a.fail(c.verb.name, fmt.Errorf("settings of type %T", c.settings))
	}
	if o.Tree == 0 {
		return a.fail(c.verb.name, errors.New("pid not specified; name the root of the process tree with -t PID"))
	}
	o.TimeoutGiven = has(c.given, "timeout") || has(c.configured, "timeout")
	if err := a.checkPrivileges(c.verb.name, o.Unprivileged); err != nil {
		return a.fail(c.verb.name, err)
	}
	s, ok := a.open(c, &o.Common, writes)
	if !ok {
		return exitError
	}
	p := a.progress(c.verb.name, s.quiet())
	stats, err := a.Engine.Dump(s.ctx, o, s.log, append(p.observers(), scripts(&o.Common, o.Scripts, s.log)...))
	p.end()
	if err != nil {
		return s.fail(stopped(s.ctx, err), "Dumping FAILED.")
	}
	s.log.Info("Dumping finished successfully")
	if o.Stats {
		printDumpStats(a.Stdout, stats)
	}
	s.close()
	return exitOK
}

// printDumpStats prints the figures in criu's words.
func printDumpStats(w io.Writer, s DumpStats) {
	fmt.Fprintln(w, "Displaying dump stats:")
	fmt.Fprintf(w, "Freezing time: %d us\n", s.FreezingTime)
	fmt.Fprintf(w, "Frozen time: %d us\n", s.FrozenTime)
	fmt.Fprintf(w, "Memory dump time: %d us\n", s.MemdumpTime)
	fmt.Fprintf(w, "Memory write time: %d us\n", s.MemwriteTime)
	printPages(w, "Memory pages scanned", s.PagesScanned)
	printPages(w, "Memory pages skipped from parent", s.PagesSkippedParent)
	printPages(w, "Memory pages written", s.PagesWritten)
	printPages(w, "Lazy memory pages", s.PagesLazy)
}

// printPages prints one count in both forms criu gives.
func printPages(w io.Writer, what string, n uint64) {
	fmt.Fprintf(w, "%s: %d (0x%x)\n", what, n, n)
}
