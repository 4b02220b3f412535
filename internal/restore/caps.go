package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/plan"
)

// checkEnv returns what checks of the plan have at hand.
func (r *restore) checkEnv() (*plan.CheckEnv, error) {
	capable, err := capable()
	if err != nil {
		return nil, err
	}
	bounded, err := bounded()
	return &plan.CheckEnv{Log: r.log, Options: r.opts, Store: r.store, Capable: capable, Bounded: bounded}, err
}

// bounded returns what tells whether the engine's bounding set has a capability.
// The kernel is asked once: there are dozens, and thousands of threads. EINVAL
// says that it has no more.
func bounded() (func(capability int) bool, error) {
	var set uint64
	for i := range 64 {
		v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("ask for Glis's own bounding set (PR_CAPBSET_READ %d): %w", i, err)
		}
		if v == 1 {
			set |= 1 << i
		}
	}
	return func(capability int) bool { return capability >= 0 && capability < 64 && set>>capability&1 != 0 }, nil
}

// capable returns what tells whether the engine has a capability in effect.
// The kernel is asked once.
func capable() (func(capability int) bool, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return nil, fmt.Errorf("ask for Glis's own capabilities: %w", err)
	}
	return func(capability int) bool {
		return capability >= 0 && capability < 64 && data[capability/32].Effective>>(capability%32)&1 != 0
	}, nil
}
