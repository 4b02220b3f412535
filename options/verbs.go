package options

import "time"

// Dump holds the settings of one dump.
type Dump struct {
	Common
	Both

	Tree         int  `opt:"tree,t" arg:"PID" min:"1" group:"Processes" rpc:"pid" help:"Root of the process tree to dump."`
	LeaveRunning bool `opt:"leave-running,R" group:"Processes" clears:"LeaveStopped" rpc:"leave_running" help:"Let the processes go on afterwards instead of ending them."`

	// Timeout is how long the processes may take to stop.
	Timeout time.Duration `opt:"timeout" arg:"SECONDS" def:"10" min:"0" group:"Processes" rpc:"timeout" help:"Give up, and let the processes go on, if they stand still for more than SECONDS (0: never). Without this option, if they are not all stopped after 10 seconds."`
	// TimeoutGiven says that Timeout was asked for. It then bounds all the time
	// that the processes stand still.
	TimeoutGiven bool
	FreezeCgroup string `opt:"freeze-cgroup" arg:"DIR" path:"work" group:"Processes" rpc:"freeze_cgroup" help:"Freeze the cgroup in DIR while the processes are found and stopped; needed if it is frozen already."`

	GhostLimit Size `opt:"ghost-limit" arg:"SIZE" def:"1M" group:"Open files" rpc:"ghost_limit" help:"Largest deleted file that is kept in the images (default 1M; K, M and G are understood)."`
	_          bool `opt:"ghost-fiemap" no:"yes" group:"Open files" supported:"accepted; holes of deleted files are always found the fastest way" help:"Find the holes of deleted files with FIEMAP."`

	TrackMem bool   `opt:"track-mem" no:"yes" group:"Memory" rpc:"track_mem" supported:"no; incremental images are not built yet" help:"Note which pages change after this dump."`
	_        string `opt:"pre-dump-mode" arg:"MODE" group:"Memory" rpc:"pre_dump_mode" supported:"accepted; only pre-dump reads it" help:"How pre-dump copies memory: 'splice' or 'read'."`

	CgroupProps       CgroupSpecs `opt:"cgroup-props" arg:"SPEC" group:"Cgroups" rpc:"cgroup_props" help:"Which properties of which controllers are saved, beside or instead of the usual ones; see criu(8)."`
	CgroupPropsFile   string      `opt:"cgroup-props-file" arg:"FILE" path:"work" group:"Cgroups" rpc:"cgroup_props_file" help:"The same, read from FILE."`
	CgroupControllers []string    `opt:"cgroup-dump-controller" arg:"NAME" group:"Cgroups" rpc:"cgroup_dump_controller" help:"Save only this controller."`

	_ string `opt:"skip-mnt" arg:"DIR" group:"Namespaces" rpc:"skip_mnt" supported:"no; mount namespaces are not built yet" help:"Leave out the mount on DIR."`
	_ string `opt:"enable-fs" arg:"NAMES" group:"Namespaces" rpc:"enable_fs" supported:"no; mount namespaces are not built yet" help:"Try to save mounts of these file systems too."`

	_ bool `opt:"enable-external-sharing" group:"Outside resources" rpc:"ext_sharing" supported:"no; mount namespaces are not built yet" help:"Let --ext-mount-map auto accept shared mounts."`
	_ bool `opt:"enable-external-masters" group:"Outside resources" rpc:"ext_masters" supported:"no; mount namespaces are not built yet" help:"Let --ext-mount-map auto accept slave mounts."`

	_ bool   `opt:"page-server" no:"yes" group:"Page server" rpc:"ps" supported:"no; the page server is not built yet" help:"Send pages to a page server."`
	_ string `opt:"address" arg:"ADDR" group:"Page server" supported:"no; the page server is not built yet" help:"Address of the page server."`
	_ int    `opt:"port" arg:"PORT" min:"1" group:"Page server" supported:"no; the page server is not built yet" help:"Port of the page server."`
	_ int    `opt:"ps-socket" arg:"FD" group:"Page server" supported:"no; the page server is not built yet" help:"Connected socket to use instead."`
}

// Restore holds the settings of one restore.
type Restore struct {
	Common
	Both

	Detach  bool `opt:"restore-detached,d" alias:"daemon" no:"yes" group:"Processes" help:"Return as soon as the processes run instead of waiting for their end."`
	Sibling bool `opt:"restore-sibling,S" no:"yes" group:"Processes" rpc:"rst_sibling" help:"Make the root process a child of Glis's parent. Only with --restore-detached."`

	// ExecCmd is the program, with its arguments, that takes Glis's place
	// after the restore; empty without --exec-cmd.
	ExecCmd []string
	_       bool `opt:"exec-cmd" group:"Processes" rpc:"exec_cmd" by:"cli" help:"After the restore become the program named after '--', which thereby is the parent of the restored processes."`

	Pidfile          string      `opt:"pidfile" arg:"FILE" path:"work" group:"Files" help:"Write the PID of the restored root process to FILE, which must not exist yet."`
	RemapAddr        []RemapAddr `opt:"remap-addr" arg:"OLD=NEW" own:"yes" group:"Network" help:"Move listeners, UDP sockets and connections from the address OLD to NEW, which this machine must have."`
	_                bool        `opt:"weak-sysctls" no:"yes" group:"Network" rpc:"weak_sysctls" supported:"no; network namespaces are not built yet" help:"Skip sysctls that this kernel does not have."`
	SkipFileRWXCheck bool        `opt:"skip-file-rwx-check" no:"yes" group:"Open files" rpc:"skip_file_rwx_check" help:"Do not compare the permissions of files."`
	InheritFD        []InheritFD `opt:"inherit-fd" arg:"fd[N]:RES" group:"Outside resources" rpc:"inherit_fd" help:"Use Glis's own descriptor N for RES: pipe:[INODE], socket:[INODE] of a UNIX socket, or the path of a file without the leading slash."`
	_                string      `opt:"join-ns,J" arg:"NS:TARGET" group:"Namespaces" rpc:"join_ns" supported:"no; namespaces are not built yet" help:"Restore into the namespace of a PID or of a file."`
	_                string      `opt:"veth-pair" arg:"IN=OUT" group:"Network" rpc:"veths" supported:"no; network namespaces are not built yet" help:"Name of a veth device's other end."`
	_                bool        `opt:"mntns-compat-mode" no:"yes" group:"Namespaces" rpc:"mntns_compat_mode" supported:"no; mount namespaces are not built yet" help:"Build mounts without MOVE_MOUNT_SET_GROUP."`

	LSMProfile string `opt:"lsm-profile" arg:"TYPE:NAME" group:"General" rpc:"lsm_profile" supported:"no; restoring security labels is not built yet" help:"Security profile of the restored processes; TYPE is 'apparmor' or 'selinux'."`
	_          string `opt:"lsm-mount-context" arg:"CONTEXT" group:"General" rpc:"lsm_mount_context" supported:"no; restoring security labels is not built yet" help:"Security context of mounts that had one."`
}

// Waits reports whether a restore stays until its processes have ended. If
// not, Glis detaches, or another program takes its place.
func (r *Restore) Waits() bool { return !r.Detach && len(r.ExecCmd) == 0 }

// Check holds the settings of a look at what this machine can do.
type Check struct {
	Common

	Feature      string `opt:"feature" arg:"NAME" group:"Check" help:"Look only at this feature."`
	Extra        bool   `opt:"extra" no:"yes" group:"Check" help:"Look at features too that only some processes need."`
	Experimental bool   `opt:"experimental" no:"yes" group:"Check" help:"Look at experimental features too."`
	All          bool   `opt:"all" group:"Check" help:"The same as --extra --experimental."`
	_            bool   `opt:"ms" group:"Check" supported:"no; criu has given it up as well, see --extra and --all" help:"Older name of checks."`
}

// Inspect holds the settings of a look into images.
type Inspect struct {
	Common

	JSON bool `opt:"json" own:"yes" group:"Inspect" help:"Print JSON."`
}

// Lock holds the settings of holding back, or letting through, the packets of a
// checkpoint's connections.
type Lock struct {
	Common
	RemapAddr []RemapAddr `opt:"remap-addr" arg:"OLD=NEW" own:"yes" group:"Network" help:"Lock for a restore with the same --remap-addr."`
}

// Verify holds the settings of a comparison of images with their checksums.
type Verify struct {
	Common
}

// Demo holds the settings of the demonstration.
type Demo struct {
	Common

	LeaveRunning bool `opt:"leave-running,R" group:"Processes" help:"Leave the server running instead of ending and restoring it."`
	Big          bool `opt:"big" own:"yes" group:"Demo" help:"Give the server 1 GiB of memory."`
}
