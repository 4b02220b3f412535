// Package feature tells what the running kernel, the engine's privileges and
// Glis itself can do. Every probe asks the kernel by bare system calls, is
// cheap, and leaves nothing behind.
package feature

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrMissing marks a conclusive no. Any other error of a probe leaves the
// question open: a lack of memory, say.
var ErrMissing = errors.New("missing")

// ErrUnknown is the answer to a name that no row has.
var ErrUnknown = errors.New("there is no such feature")

// Version is a kernel release.
type Version struct{ Major, Minor int }

// String returns the version as uname(1) would begin it.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Floor is the oldest kernel that Glis runs on.
var Floor = Version{6, 1}

// Need says who suffers if a feature is missing.
type Need int

const (
	// Optional features are needed by some processes only.
	Optional Need = iota
	// Required features are needed by every dump or restore.
	Required
)

// Probe is a row: one thing that a kernel, or the engine's privileges, may
// lack.
type Probe struct {
	Name string // for features of criu's check verb: its name there
	// Since is the first mainline release that has it; zero if that is older
	// than Floor and not known for certain.
	Since Version
	Need  Need
	// Test asks the kernel. An error that is no ErrMissing is inconclusive.
	Test func(ctx context.Context) error
	// Lacks says what Glis cannot do with it yet; "" if it can.
	Lacks string
	// Without says what a lack of it costs; "" if the name does.
	Without string
	// Criu tells names that criu's "check --feature" knows.
	Criu bool
}

// Probes answers questions about features, and remembers conclusive answers.
// It is safe for several goroutines.
type Probes struct {
	rows  []Probe
	index map[string]int

	mu    sync.Mutex
	known map[string]error // what was conclusive
}

// New returns a Probes that knows nothing yet.
func New() *Probes { return newProbes(append(needs(), table()...)) }

func newProbes(rows []Probe) *Probes {
	p := &Probes{rows: rows, index: map[string]int{}, known: map[string]error{}}
	for i := range rows {
		p.index[rows[i].Name] = i
	}
	return p
}

// Rows returns all rows. They are not to be changed.
func (p *Probes) Rows() []Probe { return p.rows }

// Row returns the row of a name.
func (p *Probes) Row(name string) (*Probe, error) {
	i, ok := p.index[name]
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	return &p.rows[i], nil
}

// Kernel returns nil if kernel and privileges allow what name stands for. The
// error is ErrMissing, ErrUnknown, or inconclusive.
func (p *Probes) Kernel(ctx context.Context, name string) error {
	row, err := p.Row(name)
	if err != nil {
		return err
	}
	p.mu.Lock()
	err, ok := p.known[name]
	p.mu.Unlock()
	if ok {
		return err
	}
	if err = ctx.Err(); err == nil {
		err = row.Test(ctx)
	}
	if err == nil || errors.Is(err, ErrMissing) {
		p.mu.Lock()
		p.known[name] = err
		p.mu.Unlock()
	}
	return err
}

// Glis returns nil if Glis can make use of what name stands for. The error is
// ErrMissing or ErrUnknown.
func (p *Probes) Glis(name string) error {
	row, err := p.Row(name)
	if err != nil || row.Lacks == "" {
		return err
	}
	return lack(nil, "%s", row.Lacks)
}

// Feature returns nil if kernel and Glis both can: the answer to criu's
// "check --feature". The errors are those of Kernel.
func (p *Probes) Feature(ctx context.Context, name string) error {
	if err := p.Glis(name); err != nil {
		return err
	}
	return p.Kernel(ctx, name)
}

// missing is an ErrMissing that says why.
type missing struct {
	why string
	err error // may be nil
}

func (m *missing) Error() string {
	if m.err == nil {
		return m.why
	}
	return m.why + ": " + m.err.Error()
}

func (m *missing) Is(target error) bool { return target == ErrMissing }
func (m *missing) Unwrap() error        { return m.err }

// lack is a conclusive no.
func lack(err error, why string, args ...any) error {
	return &missing{why: fmt.Sprintf(why, args...), err: err}
}

// conclude makes a no of a system call's error, unless it tells only that the
// call could not be tried now.
func conclude(err error, call string) error {
	if err == nil {
		return nil
	}
	for _, e := range [...]unix.Errno{unix.EINTR, unix.EAGAIN, unix.ENOMEM, unix.ENOBUFS, unix.EMFILE, unix.ENFILE, unix.ENOSPC} {
		if errors.Is(err, e) {
			return fmt.Errorf("%s: %w", call, err)
		}
	}
	return lack(err, "%s", call)
}

// all runs tests until one fails.
func all(tests ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, test := range tests {
			if err := test(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}
