// Package task is the state that belongs to a process or thread itself, one
// file for each part, how it is read beside how it comes back.
//
// What the thread can be asked for by a system call goes into the batch that
// it runs anyway: a call costs 0.1 µs there, a file of /proc ten or more. The
// sets of capabilities and the seccomp mode come from the thread's status,
// which must have been read while it was frozen, and pending signals from
// scan.Thread.Pending and Shared, which must be known when the answers are
// called for.
package task

import (
	"slices"

	"glis.dev/glis/internal/kind"
)

// ProcessFacets are the parts of a process, for which its leader is asked.
func ProcessFacets() []kind.Facet {
	return slices.Concat(BeforeThreads(), processFirst(), limits(), processLast())
}

// ThreadFacets are the parts of every thread, the leader included. Their order
// is that of a restore in a thread that is not the leader.
func ThreadFacets() []kind.Facet { return slices.Concat(threadFirst(), threadLast()) }

// BeforeThreads are the parts of a process that come back while the leader is
// its only thread, best in the batch that clones the others.
func BeforeThreads() []kind.Facet {
	return []kind.Facet{
		// Setting a signal to be ignored throws away what is pending, in
		// every thread: actions come before any signal is queued.
		Sigactions{},
		// Registering in a process of several threads waits for all CPUs.
		Membarrier{},
		XStatePermission{},
		Subreaper{},
	}
}

// LeaderFacets is the restore order of the leader's last batch, which must run
// when every other thread's has ended:
//   - a change of credentials in any thread makes the process undumpable, so
//     RestoreDumpable comes after this batch;
//   - limits count queued signals, and those that timers will send.
func LeaderFacets() []kind.Facet {
	return slices.Concat(processFirst(), threadFirst(), limits(), threadLast(), processLast())
}

// processFirst may need privileges that the task gives up later.
func processFirst() []kind.Facet {
	return []kind.Facet{LDT{}, ProcFiles{}, Autogroup{}, LoginUID{}, &Keyring{}, newLSM(), NoTerminal{}, FutureLock{}, MadeTimers{}, SharedSignals{}}
}

// limits may lower what the restore itself needs, and raising one takes a
// privilege: after all else but credentials.
func limits() []kind.Facet { return []kind.Facet{Rlimits{}} }

// processLast starts clocks.
func processLast() []kind.Facet { return []kind.Facet{Timers{}, PosixTimers{}} }

func threadFirst() []kind.Facet {
	return []kind.Facet{
		Registers{},
		TIDAddress{},
		RobustList{},
		Rseq{},
		AltStack{},
		Name{},
		Personality{},
		// A real-time policy sets the timer slack to 0, and back to the
		// default when it ends: slack first.
		Attributes{},
		TSC{},
		newSched(),
		newAffinity(),
		MemPolicy{},
		Signals{},
		newSeccomp(),
		&Unseen{},
	}
}

// threadLast takes privileges away.
func threadLast() []kind.Facet {
	return []kind.Facet{
		Creds{},
		// A change of ids or capabilities clears the parent-death signal.
		DeathSignal{},
	}
}
