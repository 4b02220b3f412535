package unix

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/sockdiag"
)

// holder says, for messages, whose a name is that another socket has: "process
// 12 (nginx)", as far as that can be found out.
func holder(name []byte) string {
	ino := holding(name)
	if ino == 0 {
		return "another socket"
	}
	if p := processOf(ino); p != "" {
		return p
	}
	return "socket " + strconv.FormatUint(uint64(ino), 10) + ", of no process that is visible here,"
}

// processOf says which process has a socket open, "" if none is found.
func processOf(ino uint32) string {
	link := fmt.Sprintf("socket:[%d]", ino)
	names, _ := filepath.Glob("/proc/[0-9]*/fd/*") // who can't be looked at isn't found
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && to == link {
			pid := strings.Split(name, "/")[2]
			comm, _ := fd.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(comm)))
		}
	}
	return ""
}

// holding returns the inode of the socket that has a name, 0 if none is found.
func holding(name []byte) (ino uint32) {
	var st sys.Stat_t
	path := isPath(name) && sys.Stat(string(name), &st) == nil
	c, err := sockdiag.Open(0)
	if err != nil {
		return 0
	}
	defer c.Close()
	listens := false
	err = c.EachUnix(sockdiag.ShowName|sockdiag.ShowVFS, func(u *sockdiag.Unix) error {
		same := bytes.Equal(u.Name, name) && !isPath(name) || path && u.HasVFS && u.VFSIno == uint32(st.Ino)
		// What was accepted has the name, too.
		if same && !listens && u.Ino != 0 {
			ino, listens = u.Ino, u.State == listening
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return ino
}
