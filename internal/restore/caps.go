package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/taskmem"
)

// checkEnv returns what checks of the plan have at hand.
func (r *restore) checkEnv() (*plan.CheckEnv, error) {
	capable, err := capable()
	if err != nil {
		return nil, err
	}
	r.warnOfSandbox(capable)
	bounded, err := bounded()
	return &plan.CheckEnv{Log: r.log, Options: r.opts, Store: r.store, Capable: capable, Bounded: bounded}, err
}

// warnOfSandbox says that the tree is going to be in a Landlock sandbox that the engine is
// in: no image tells whether it was. Nobody in one that restricts files may mount. There is
// nothing to bind, so that nothing is mounted.
func (r *restore) warnOfSandbox(capable func(int) bool) {
	if capable(unix.CAP_SYS_ADMIN) && taskmem.HasLandlock() && errors.Is(unix.Mount("", "/", "", unix.MS_BIND, ""), unix.EPERM) {
		r.log.Warn("Glis may not mount in spite of CAP_SYS_ADMIN, as in a Landlock sandbox: what it restores is in that, too")
	}
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
