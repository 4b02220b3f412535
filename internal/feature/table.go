package feature

// table are the features that criu 4.2's "check --feature" knows, in its
// order.
func table() []Probe {
	rows := []Probe{
		{Name: "mnt_id", Since: Version{3, 15}, Test: mntID},
		{Name: "mem_dirty_track", Since: Version{6, 7}, Test: memDirtyTrack, Lacks: "Glis can't make incremental dumps yet"},
		{Name: "aio_remap", Test: aioRemap},
		{Name: "timerfd", Since: Version{3, 17}, Test: timerfdTicks},
		{Name: "tun", Test: tun},
		{Name: "tun_ns", Test: tunNS, Lacks: "Glis can't carry over network namespaces yet"},
		{Name: "userns", Test: all(namespace("user"), prctlMMMap), Lacks: "Glis can't carry over user namespaces yet"},
		{Name: "fdinfo_lock", Since: Version{4, 1}, Test: fdinfoLock},
		{Name: "seccomp_suspend", Since: Version{4, 3}, Test: seccompSuspend},
		{Name: "seccomp_filters", Since: Version{4, 4}, Test: seccompFilters},
		{Name: "loginuid", Test: loginUID},
		{Name: "cgroupns", Since: Version{4, 6}, Test: namespace("cgroup"), Lacks: "Glis can't carry over cgroup namespaces yet"},
		{Name: "autofs", Test: autofs, Lacks: "Glis can't carry over autofs mounts yet"},
		{Name: "tcp_half_closed", Test: tcpHalfClosed},
		{Name: "compat_cr", Since: Version{4, 12}, Test: mapVdso32, Lacks: "Glis can't carry over 32-bit processes yet"},
		{Name: "uffd", Since: Version{4, 3}, Test: uffd, Lacks: lacksLazy},
		{Name: "uffd-noncoop", Since: Version{4, 11}, Test: uffdNoncoop, Lacks: lacksLazy},
		{Name: "can_map_vdso", Since: Version{4, 8}, Test: mapVdso64},
		{Name: "sk_ns", Since: Version{4, 10}, Test: socketNS, Lacks: lacksNetNS},
		{Name: "sk_unix_file", Since: Version{4, 12}, Test: socketFile},
		{Name: "net_diag_raw", Test: diagRaw},
		{Name: "nsid", Since: Version{4, 0}, Test: nsid, Lacks: lacksNetNS},
		{Name: "link_nsid", Since: Version{4, 0}, Test: nsid, Lacks: lacksNetNS},
		{Name: "kcmp_epoll", Since: Version{4, 13}, Test: kcmpEpoll},
		{Name: "timens", Since: Version{5, 6}, Test: namespace("time")},
		{Name: "external_net_ns", Test: namespace("net"), Lacks: lacksNetNS},
		{Name: "clone3_set_tid", Since: Version{5, 5}, Test: clone3SetTID},
		{Name: "newifindex", Since: Version{5, 13}, Test: atLeast(Version{5, 13}), Lacks: lacksNetNS},
		{Name: "nftables", Test: nftables, Lacks: "Glis can't carry over nftables rules yet"},
		{Name: "has_ipt_legacy", Test: iptablesLegacy, Lacks: "Glis can't carry over rules of iptables yet"},
		{Name: "pidfd_store", Since: Version{5, 6}, Test: pidfdGetfd},
		{Name: "ns_pid", Since: Version{4, 1}, Test: nsPID},
		{Name: "apparmor_stacking", Test: apparmorStacking, Lacks: "Glis can't carry over AppArmor profiles yet"},
		{Name: "network_lock_nftables", Test: nftables},
		{Name: "sockopt_buf_lock", Since: Version{5, 15}, Test: sockoptBufLock},
		{Name: "memfd_hugetlb", Since: Version{4, 14}, Test: memfdHugetlb},
		{Name: "move_mount_set_group", Since: Version{5, 15}, Test: moveMountSetGroup, Lacks: "Glis can't carry over mount namespaces yet"},
		{Name: "openat2", Since: Version{5, 6}, Test: openat2},
		{Name: "get_rseq_conf", Since: Version{5, 13}, Test: rseqConf},
		{Name: "ipv6_freebind", Test: ipv6Freebind},
		{Name: "pagemap_scan", Since: Version{6, 7}, Test: pagemapScan, Without: "pages are found by reading pagemap, which is slower"},
		{Name: "timer_cr_ids", Since: Version{6, 15}, Test: timerIDs, Without: "POSIX timers with gaps in their numbers are slow to restore"},
		{Name: "overlayfs_maps", Test: overlayMaps, Without: "mapped files of overlayfs are found by their paths alone"},
		{Name: "breakpoints", Test: breakpoints, Lacks: "Glis has no use for hardware breakpoints and loses nothing without them"},
		{Name: "pagemap_scan_guard_pages", Since: Version{6, 15}, Test: pagemapScanGuard, Without: "processes with guard regions (MADV_GUARD_INSTALL) can't be dumped"},
	}
	for i := range rows {
		rows[i].Criu = true
	}
	return rows
}

const (
	lacksLazy  = "Glis can't restore memory lazily yet"
	lacksNetNS = "Glis can't carry over network namespaces yet"
)
