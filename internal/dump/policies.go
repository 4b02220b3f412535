package dump

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
)

// Which NUMA nodes a part of memory comes from by a policy of its own (mbind(2)) is told by
// numa_maps, for which the kernel looks at all pages, so that it is read before anything is
// frozen. Where only one node has memory a policy changes nothing, and nobody looks.

// severalNodes tells whether memory is on several nodes.
func severalNodes() bool {
	return several(fd.ReadFile("/sys/devices/system/node/has_memory"))
}

// several tells it by a list, as 0-1,4. Where there is none, as without sysfs, it may be so:
// a kernel that has no nodes has no numa_maps either.
func several(list []byte, err error) bool {
	return err != nil || bytes.ContainsAny(list, ",-")
}

// noPolicies refuses processes with such parts.
func noPolicies(pids []proc.PID) error {
	for _, pid := range pids {
		b, err := fd.ReadFile(fmt.Sprintf("/proc/%d/numa_maps", pid))
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue // it has ended, or the kernel has no policies
		}
		if err != nil {
			return fmt.Errorf("process %d: does a part of its memory have a NUMA policy of its own? %w", pid, err)
		}
		if at, policy, ok := ownPolicy(b); ok {
			return kind.Unsupported(fmt.Sprintf("process %d, memory at %s", pid, at), "it has a NUMA policy of its own (%s, mbind(2)), which is not carried over yet; start the program without (java: -XX:-UseNUMA)", policy)
		}
	}
	return nil
}

// ownPolicy finds a part with another policy than most have, which is the process's own
// (set_mempolicy(2)): see numa(7).
func ownPolicy(maps []byte) (at, policy string, ok bool) {
	count, usual := map[string]int{}, ""
	for line := range bytes.Lines(maps) {
		if _, p := policyOf(line); p != "" {
			if count[p]++; count[p] > count[usual] {
				usual = p
			}
		}
	}
	for line := range bytes.Lines(maps) {
		if at, p := policyOf(line); p != "" && p != usual {
			return at, p, true
		}
	}
	return "", "", false
}

// policyOf takes a line of numa_maps apart. Two policies are called by two words.
func policyOf(line []byte) (at, policy string) {
	f := bytes.Fields(line)
	if len(f) < 2 {
		return "", ""
	}
	policy = string(f[1])
	if len(f) > 2 && (policy == "weighted" || f[2][0] == '(') {
		policy += " " + string(f[2])
	}
	return string(f[0]), policy
}
