package sockmem

import "glis.dev/glis/internal/kmem"

// Process returns the number, in the engine's PID namespace, of the process or thread
// that a pidfd is of; 0 if it has none. file is where the kernel has the pidfd.
func (m *Memory) Process(file kmem.Addr) (int32, error) {
	own, err := m.namespace()
	if err != nil {
		return 0, err
	}
	pid, err := m.follow(file, "file.private_data")
	if err == nil && pid == 0 { // it is on pidfs (Linux 6.9)
		pid, err = m.follow(file, "file.f_inode", "inode.i_private")
	}
	if err != nil {
		return 0, err
	}
	return m.number(pid, own)
}
