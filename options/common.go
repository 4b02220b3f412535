package options

// Common holds the settings that every verb shares.
type Common struct {
	ImagesDir string `opt:"images-dir,D" arg:"DIR" def:"." group:"Files" rpc:"images_dir" help:"Directory that holds the images."`
	WorkDir   string `opt:"work-dir,W" arg:"DIR" group:"Files" rpc:"work_dir_fd" help:"Directory for logs, PID files and statistics. Paths given in other options start here. Default: the images directory."`
	Parent    string `opt:"prev-images-dir" arg:"DIR" group:"Memory" rpc:"parent_img" supported:"no; incremental images are not built yet" help:"Images of the previous dump, relative to the images directory."`
	_         bool   `opt:"stream" no:"yes" group:"Files" supported:"no; images over criu-image-streamer are not built yet" help:"Send and receive images through criu-image-streamer."`

	LogFile   string    `opt:"log-file,o" arg:"FILE" path:"work" group:"Logging" rpc:"log_file" help:"Write the log to FILE, '-' for standard output. Default: standard error."`
	Verbosity Verbosity `opt:"verbosity,v" arg:"[NUM]" def:"2" group:"Logging" rpc:"log_level" help:"How much is logged: 0 nothing, 1 errors, 2 warnings too (default), 3 information and timestamps too, 4 everything. Without NUM one more than before; -vvv is three more."`
	_         bool      `opt:"log-pid" no:"yes" group:"Logging" supported:"accepted; one process does all the work, so all lines stand in one log" help:"Have a log file for each restored process."`
	Stats     bool      `opt:"display-stats" no:"yes" group:"Logging" rpc:"display_stats" help:"Print times and page counts at the end."`

	_ string `opt:"config" arg:"FILE" group:"Configuration" rpc:"config_file" by:"cli" help:"Read options from FILE instead of the default files."`
	_ bool   `opt:"no-default-config" group:"Configuration" by:"cli" help:"Do not read /etc/criu/default.conf and ~/.criu/default.conf."`

	Unprivileged bool   `opt:"unprivileged" no:"yes" group:"General" rpc:"unprivileged" help:"Try with fewer privileges than root has."`
	_            bool   `opt:"deprecated" no:"yes" group:"General" supported:"accepted; nothing in Glis is deprecated" help:"Allow deprecated functions."`
	_            string `opt:"libdir,L" arg:"DIR" group:"General" supported:"no; Glis loads no plugins" help:"Directory of plugins."`
	_            int    `opt:"close" arg:"FD" group:"General" supported:"no; start Glis without the descriptor instead" help:"Close descriptor FD before anything else."`
	_            bool   `opt:"help,h" group:"General" by:"cli" help:"Show this text. After a command: only what that command uses."`
	_            bool   `opt:"version,V" group:"General" by:"cli" help:"Show the version."`
}

// Both holds the settings that mean the same, or two halves of the same, when
// dumping and when restoring.
type Both struct {
	LeaveStopped bool   `opt:"leave-stopped,s" group:"Processes" clears:"LeaveRunning" rpc:"leave_stopped" help:"Leave the processes stopped afterwards."`
	ShellJob     bool   `opt:"shell-job,j" no:"yes" group:"Processes" rpc:"shell_job" help:"Accept a session and process group whose leader stays outside, as with a program started from a shell. Needed for dump and restore alike."`
	Root         string `opt:"root,r" arg:"DIR" path:"work" group:"Namespaces" rpc:"root" supported:"no; mount namespaces are not built yet" help:"Root of the mount namespace."`

	TCPEstablished bool `opt:"tcp-established" no:"yes" group:"Network" rpc:"tcp_established" help:"Save and restore established TCP connections."`
	TCPClose       bool `opt:"tcp-close" no:"yes" group:"Network" rpc:"tcp_close" help:"Do not save established TCP connections; restore their sockets closed."`
	SkipInFlight   bool `opt:"skip-in-flight" no:"yes" group:"Network" rpc:"tcp_skip_in_flight" help:"Leave out TCP connections that are not fully established yet, and UNIX connections from outside the tree that are not accepted yet, instead of failing."`

	NetworkLock NetworkLock `opt:"network-lock" arg:"METHOD" def:"nftables" group:"Network" rpc:"network_lock" help:"How the packets of dumped connections are held back: 'nftables' (default), 'iptables', which is held with nftables too and needs no other program, or 'skip'. Restore takes what dump used."`
	_           string      `opt:"empty-ns" arg:"NS" group:"Namespaces" rpc:"empty_ns" supported:"no; namespaces are not built yet" help:"Make namespace NS ('net') but leave its contents to others."`

	FileLocks      bool           `opt:"file-locks,l" no:"yes" group:"Open files" rpc:"file_locks" help:"Save and restore file locks. Safe only if nobody outside the tree uses them."`
	LinkRemap      bool           `opt:"link-remap" no:"yes" group:"Open files" rpc:"link_remap" help:"Allow to give deleted files that are still linked elsewhere a temporary name."`
	EvasiveDevices bool           `opt:"evasive-devices" no:"yes" group:"Open files" rpc:"evasive_devices" help:"Use any path that leads to the same device if the original one does not."`
	ForceIrmap     bool           `opt:"force-irmap" no:"yes" group:"Open files" rpc:"force_irmap" help:"Search the usual places for files that inotify and fanotify watch, where the file system does not tell their paths."`
	IrmapScanPaths []string       `opt:"irmap-scan-path" arg:"DIR" group:"Open files" rpc:"irmap_scan_paths" help:"Search DIR for watched files too."`
	FileValidation FileValidation `opt:"file-validation" arg:"METHOD" def:"filesize" only:"filesize; comparing build IDs is not built yet" group:"Open files" help:"How a file is known to be still the same: 'filesize' or 'buildid'."`
	_              bool           `opt:"allow-uprobes" no:"yes" group:"Memory" supported:"no; uprobe mappings are not built yet" help:"Accept mappings made by uprobes."`

	External  []External `opt:"external" arg:"RES" group:"Outside resources" rpc:"external" only:"unix,pipe,file,tty; other resources outside the tree are not built yet" help:"Treat RES as a resource outside the tree: pipe[INODE] is a pipe whose other end is outside, unix[INODE] a UNIX socket whose other end is and may be gone afterwards, file[MNT_ID:INODE] an open file that no path leads to, tty[RDEV:DEV] a terminal (both hexadecimal, from stat(2)) that another one takes the place of."`
	ExtUnixSk ExtUnix    `opt:"ext-unix-sk,x" arg:"[INODES]" group:"Outside resources" rpc:"ext_unix_sk" help:"Accept UNIX sockets whose other end stays outside; with INODES (separated by commas) these."`
	_         string     `opt:"ext-mount-map,M" arg:"KEY:VALUE" group:"Outside resources" rpc:"ext_mnt" supported:"no; mount namespaces are not built yet" help:"Old form of --external mnt."`
	// Scripts are programs that run at each stage, see criu(8).
	Scripts []string `opt:"action-script" arg:"FILE" group:"General" help:"Run the program FILE at each stage; CRTOOLS_SCRIPT_ACTION names the stage, CRTOOLS_IMAGE_DIR the images, CRTOOLS_INIT_PID the root process."`

	Cgroups     CgroupMode   `opt:"manage-cgroups" arg:"[MODE]" implied:"soft" def:"ignore" group:"Cgroups" rpc:"manage_cgroups_mode" help:"Save and restore cgroups, and which of them the processes are in. On restore 'none' and 'props' want them to exist, and leave or set what they are set to; 'soft' (without MODE) makes those that are missing, 'full' sets existing ones, too, 'strict' wants none to exist; 'ignore' (the default) leaves the processes in Glis's own."`
	CgroupRoots []CgroupRoot `opt:"cgroup-root" arg:"PATH" group:"Cgroups" rpc:"cg_root" help:"Save cgroups from PATH on instead of those the processes are in, or restore them to PATH; CONTROLLER:PATH for one controller."`
	CgroupYard  string       `opt:"cgroup-yard" arg:"DIR" path:"work" group:"Cgroups" rpc:"cgroup_yard" help:"Directory with the cgroup hierarchies already mounted, each under its controllers, its name or 'unified'."`

	CPUCap CPUCap `opt:"cpu-cap" arg:"[CAP]" implied:"all" def:"none" only:"none; comparing processors is not built yet" group:"General" rpc:"cpu_cap" help:"Processor capabilities to write and compare, separated by commas: 'fpu', 'cpu', 'ins', 'all', 'none'; ^CAP takes one out."`
	_      bool   `opt:"auto-dedup" no:"yes" group:"Memory" rpc:"auto_dedup" supported:"no; incremental images are not built yet" help:"Remove pages from older images as they are replaced or restored."`
	_      bool   `opt:"lazy-pages" group:"Memory" rpc:"lazy_pages" supported:"no; restoring pages on demand is not built yet" help:"Restore pages when they are needed."`
	_      bool   `opt:"tls" no:"yes" group:"Page server" rpc:"tls" supported:"no; the page server is not built yet" help:"Use TLS."`
	_      string `opt:"tls-cacert" arg:"FILE" group:"Page server" rpc:"tls_cacert" supported:"no; the page server is not built yet" help:"Trust only this authority."`
	_      string `opt:"tls-cacrl" arg:"FILE" group:"Page server" rpc:"tls_cacrl" supported:"no; the page server is not built yet" help:"Certificates no longer trusted."`
	_      string `opt:"tls-cert" arg:"FILE" group:"Page server" rpc:"tls_cert" supported:"no; the page server is not built yet" help:"Own certificate."`
	_      string `opt:"tls-key" arg:"FILE" group:"Page server" rpc:"tls_key" supported:"no; the page server is not built yet" help:"Own private key."`
	_      bool   `opt:"tls-no-cn-verify" group:"Page server" rpc:"tls_no_cn_verify" supported:"no; the page server is not built yet" help:"Do not compare the server's name with its certificate."`
	_      int    `opt:"status-fd" arg:"FD" group:"General" rpc:"status_fd" supported:"accepted; with criu, too, only the page server, lazy pages and the service write to it, which are not built yet" help:"Write a zero byte to FD when ready."`
}
