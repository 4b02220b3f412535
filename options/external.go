package options

import (
	"fmt"
	"strconv"
	"strings"
)

// External names a resource outside the tree: KIND[ID]:VALUE, where the value
// and on dump its colon may be missing.
type External struct {
	Kind  string // "mnt", "dev", "file", "tty", "unix", "net", "pid", "veth", …
	ID    string // what stands in the brackets; empty in mnt[]
	Value string // what stands behind the colon
}

// Set reads KIND[ID] or KIND[ID]:VALUE. The ID may itself hold brackets, as
// the name of a path does; the last "]" or "]:" counts.
func (e *External) Set(s string) error {
	kind, rest, ok := strings.Cut(s, "[")
	if !ok || kind == "" {
		return fmt.Errorf("%q is not KIND[ID] or KIND[ID]:VALUE", s)
	}
	id, value, ok := strings.Cut(rest, "]:")
	if !ok {
		id, ok = strings.CutSuffix(rest, "]")
	}
	if !ok {
		return fmt.Errorf("%q lacks the closing bracket of KIND[ID]", s)
	}
	*e = External{Kind: strings.TrimSuffix(kind, ":"), ID: id, Value: value}
	return nil
}

// IsExternal tells whether a resource was named.
func (b *Both) IsExternal(kind string, id uint64) bool {
	for i := range b.External {
		if e := &b.External[i]; e.Kind == kind && e.ID == strconv.FormatUint(id, 10) {
			return true
		}
	}
	return false
}

// Key gives KIND[ID], the name that images and other options use.
func (e External) Key() string { return e.Kind + "[" + e.ID + "]" }

// InheritFD hands one of Glis's own descriptors to the restored tree.
type InheritFD struct {
	FD  int    // the number in Glis
	Key string // what it stands for: "pipe[123]", "tty[88:5]", "path/to/file", …
}

// Set reads fd[N]:KEY.
func (i *InheritFD) Set(s string) error {
	rest, ok := strings.CutPrefix(s, "fd[")
	num, key, ok2 := strings.Cut(rest, "]:")
	n, err := strconv.ParseUint(num, 10, 31)
	if !ok || !ok2 || key == "" || err != nil {
		return fmt.Errorf("%q is not fd[NUMBER]:RESOURCE", s)
	}
	*i = InheritFD{FD: int(n), Key: key}
	return nil
}

// Is tells whether a file is meant: criu's help has pipes and sockets without
// the colon that criu itself wants, and both do.
func (i InheritFD) Is(key string) bool {
	return i.Key == key || strings.Replace(key, ":[", "[", 1) == i.Key
}

// ExtUnix says which UNIX sockets may have their other end outside the tree.
type ExtUnix struct {
	Allowed bool     // the option was given: any socket may
	Inodes  []uint32 // those named one by one, an older form criu still takes
}

// Set reads nothing or a list of inode numbers separated by commas.
func (x *ExtUnix) Set(s string) error {
	var inodes []uint32
	for word := range strings.SplitSeq(s, ",") {
		if word == "" {
			continue
		}
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not the inode of a UNIX socket", word)
		}
		inodes = append(inodes, uint32(n))
	}
	x.Allowed = true
	x.Inodes = append(x.Inodes, inodes...)
	return nil
}
