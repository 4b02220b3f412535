// Package inspect says what a checkpoint holds: the tasks as a tree, their
// descriptors, the peers of their sockets and pipes, and their memory by kind.
// It reads images only; no process is looked at, and no privilege is needed.
//
// Images are not trusted. A broken one is one error, which names the file and
// where it can the offset, and nothing is printed. Kinds that Glis cannot
// restore are shown with what is known of them.
//
// # JSON
//
// With --json the same is printed as one document. Its keys are stable: they
// may be joined by others but not change. Sizes are in bytes, times in
// microseconds, "when" is as in RFC 3339. A key without a value is left out,
// except for numbers that are 0 because there is nothing to count. Bytes of a
// name that are not UTF-8 come out as U+FFFD; a file then has them in
// "name_bytes", base64.
//
//	directory       where the images are
//	image_version   version of criu's format: "1.0" or "1.1"
//	made_by         "glis", or "criu" for criu and anything that writes the same
//	run_id          of the dump
//	when            last change of inventory.img
//	uptime_us       how long the machine had been running
//	machine         "x86-64", "aarch64", ...
//	checksums       "intact": of all but pages, which verify looks at; left out if there are none
//	task_count      all tasks, those that have ended too
//	thread_count    threads of tasks that have not ended
//	zombie_count    tasks that have ended and wait for their parent
//	file_count, bytes           files in the directory
//	dump            freezing_us, frozen_us, memdump_us, memwrite_us, pages_written
//	tasks           see Task: in the order of the images, parents first
//	files           see File: open files, each once, however often it is shared
//	pipes           see Pipe: one for the two ends of a pipe or FIFO
//	shared_memory   see Shared: shared anonymous memory, memfds and System V segments
//	locks           see Lock
//	other_images    image files that nothing above is taken from
//	other_files     files that are no images
//
// Descriptors say in "file" the "id" of their file, and "kind" with it: the two
// together are unique. Sockets say in "peer_file" the id of the file at the
// other end, pipes in "readers" and "writers", and epoll members in "file". A
// file's "holders" are the descriptors it is open as. Tasks that share a table
// of descriptors have them all listed with the first one, whose PID is the
// others' "descriptors_of"; "memory_of" is the same for memory.
package inspect
