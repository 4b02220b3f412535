package cgroup

import (
	"path"
	"slices"
	"strings"

	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/options"
)

// Properties are files of a cgroup that are written to by whoever manages it.
// A name may have wild cards. Their order is that of a restore. The controllers
// of version 2 stand under "", beside what every cgroup has.
func properties(controller string) []string {
	switch controller {
	case "cpu":
		return []string{"cpu.shares", "cpu.idle", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_burst_us", "cpu.rt_period_us", "cpu.rt_runtime_us"}
	case "memory": // the limit of memory and swap can't be below that of memory
		return []string{
			"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness", "memory.soft_limit_in_bytes",
			"memory.move_charge_at_immigrate", "memory.oom_control", "memory.use_hierarchy", "memory.kmem.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes",
		}
	case "cpuset":
		return []string{
			"cpuset.cpus", "cpuset.mems", "cpuset.memory_migrate", "cpuset.cpu_exclusive", "cpuset.mem_exclusive", "cpuset.mem_hardwall",
			"cpuset.memory_spread_page", "cpuset.memory_spread_slab", "cpuset.sched_load_balance", "cpuset.sched_relax_domain_level",
		}
	case "blkio":
		return []string{"blkio.weight"}
	case "net_cls":
		return []string{"net_cls.classid"}
	case "net_prio":
		return []string{"net_prio.ifpriomap"}
	case "pids":
		return []string{"pids.max"}
	case "devices":
		return []string{"devices.list"}
	case "hugetlb":
		return []string{"hugetlb.*.limit_in_bytes"}
	case "":
		return []string{
			"cpu.idle", "cpu.weight", "cpu.max", "cpu.max.burst", "cpu.uclamp.min", "cpu.uclamp.max",
			"cpuset.cpus", "cpuset.mems", "cpuset.cpus.exclusive", "cpuset.cpus.partition",
			"memory.max", "memory.high", "memory.low", "memory.min", "memory.oom.group", "memory.swap.max", "memory.swap.high", "memory.zswap.max", "memory.zswap.writeback",
			"io.weight", "io.bfq.weight", "io.max", "io.latency", "io.prio.class", "pids.max", "hugetlb.*.max", "hugetlb.*.rsvd.max", "rdma.max", "misc.max",
			"cgroup.subtree_control", "cgroup.max.descendants", "cgroup.max.depth", "cgroup.freeze", "cgroup.type", "cgroup.pressure",
		}
	}
	return nil
}

// general are the files that every cgroup of version 1 has. Of those that list
// processes only who may use them is kept.
var general = []string{"cgroup.clone_children", "notify_on_release", "cgroup.procs", "tasks"}

// lists are files that show processes or threads, and move them when they are
// written.
var lists = []string{"cgroup.procs", "tasks", "cgroup.threads"}

// special are properties that count, or can be set, only while a cgroup has no
// processes and no children: they are set when it is made.
var special = []string{
	"cpuset.cpus", "cpuset.mems", "devices.list", "memory.kmem.limit_in_bytes", "memory.swappiness",
	"memory.oom_control", "memory.use_hierarchy", "cgroup.type", "cgroup.subtree_control",
}

// freezing are properties that stop the tree, and so come last of all.
var freezing = []string{"cgroup.freeze", "freezer.state"}

// wanted are the properties of a hierarchy, with those that the user names.
func wanted(hierarchy string, more []options.CgroupSpec) []string {
	var out []string
	for controller := range strings.SplitSeq(hierarchy, ",") {
		mine := properties(controller)
		for _, m := range more {
			if m.Controller != controller {
				continue
			}
			if m.Replace {
				mine = nil
			}
			mine = append(slices.Clone(mine), m.Names...)
		}
		out = append(out, mine...)
	}
	if hierarchy != "" {
		out = append(out, general...)
	}
	return out
}

// matching returns the files of a cgroup that are among the properties.
func matching(d *cgroupfs.Dir, properties []string) ([]string, error) {
	files, err := d.Files()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, pattern := range properties {
		for _, f := range files {
			if ok, _ := path.Match(pattern, f); ok && !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out, nil
}
