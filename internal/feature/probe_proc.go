package feature

import (
	"bytes"
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/proc"
)

// fdinfo reads what the kernel says of a descriptor of the engine.
func fdinfo(n int) (proc.FDInfo, error) {
	var info proc.FDInfo
	err := self(func(d *proc.Dir) (err error) {
		info, err = d.FDInfo(int32(n))
		return conclude(err, "fdinfo")
	})
	return info, err
}

// memfd gives a memory file to use.
func memfd(flags int, use func(fd int) error) error {
	n, err := unix.MemfdCreate("glis-probe", unix.MFD_CLOEXEC|flags)
	if err != nil {
		return conclude(err, "memfd_create")
	}
	defer unix.Close(n)
	return use(n)
}

// mntID: the parser refuses fdinfo without mnt_id.
func mntID(context.Context) error {
	return memfd(0, func(n int) error { _, err := fdinfo(n); return err })
}

func fdinfoLock(context.Context) error {
	return memfd(0, func(n int) error {
		if err := unix.Flock(n, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return conclude(err, "flock")
		}
		info, err := fdinfo(n)
		if err == nil && len(info.Locks) == 0 {
			return lack(nil, "fdinfo does not show locks")
		}
		return err
	})
}

func memfdHugetlb(context.Context) error {
	return memfd(unix.MFD_HUGETLB, func(int) error { return nil })
}

// memfdExec tests whether vm.memfd_noexec lets a memory file be executed. A
// kernel before 6.3 knows no MFD_EXEC and executes all.
func memfdExec(context.Context) error {
	n, err := unix.MemfdCreate("glis-probe", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL {
		return nil
	}
	if err == nil {
		unix.Close(n)
	}
	return conclude(err, "memfd_create(MFD_EXEC)")
}

func nsPID(context.Context) error {
	return self(func(d *proc.Dir) error {
		s, err := d.Status()
		if err == nil && len(s.NSpid) == 0 {
			return lack(nil, "/proc/PID/status has no NSpid")
		}
		return conclude(err, "status")
	})
}

func procChildren(context.Context) error {
	return self(func(d *proc.Dir) error {
		_, err := d.Children(proc.TID(d.PID()))
		return conclude(err, "children")
	})
}

func procTimers(context.Context) error {
	return self(func(d *proc.Dir) error {
		_, err := d.Timers()
		return conclude(err, "timers")
	})
}

// mapFiles opens the engine's program through map_files, which asks for the
// privilege that a link's name does not.
func mapFiles(context.Context) error {
	return self(func(d *proc.Dir) error {
		list, err := d.Maps()
		if err != nil {
			return conclude(err, "maps")
		}
		i := slices.IndexFunc(list, func(v proc.VMA) bool { return v.Inode != 0 })
		if i < 0 {
			return lack(nil, "the engine's own program is not in its maps")
		}
		n, err := d.Open(list[i].MapFile(), unix.O_RDONLY)
		if err == nil {
			unix.Close(n)
		}
		return conclude(err, "map_files")
	})
}

// loginUID tests whether the login uid can be set, without an audit record
// of having done so: who has none may take one, others need a capability.
func loginUID(context.Context) error {
	if err := unix.Access("/proc/self/loginuid", unix.W_OK); err != nil {
		return conclude(err, "loginuid")
	}
	return self(func(d *proc.Dir) error {
		uid, err := d.LoginUID()
		if err == nil && uid == proc.NoLoginUID {
			return nil
		}
		if err != nil {
			return conclude(err, "loginuid")
		}
		return hasCap("CAP_AUDIT_CONTROL", unix.CAP_AUDIT_CONTROL)
	})
}

// autofs looks at the list: a mount would be seen by others.
func autofs(context.Context) error {
	b, err := fd.ReadFile("/proc/filesystems")
	if err != nil {
		return conclude(err, "the list of file systems")
	}
	if !bytes.Contains(b, []byte("\tautofs\n")) {
		return lack(nil, "the kernel has no autofs loaded")
	}
	return nil
}

func iptablesLegacy(context.Context) error {
	return conclude(unix.Access("/proc/net/ip_tables_names", unix.F_OK), "legacy iptables")
}

func openat2(context.Context) error {
	n, err := unix.Openat2(unix.AT_FDCWD, ".", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV})
	if err == nil {
		unix.Close(n)
	}
	return conclude(err, "openat2")
}

// moveMountSetGroup moves nothing nowhere: EINVAL, if the flag is unknown,
// comes before EBADF.
func moveMountSetGroup(context.Context) error {
	const flags = unix.MOVE_MOUNT_SET_GROUP | unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(-1, "", -1, "", flags); err != unix.EBADF {
		return conclude(err, "move_mount(MOVE_MOUNT_SET_GROUP)")
	}
	return nil
}
