package sockmem

import (
	"fmt"

	"glis.dev/glis/internal/bpf"
)

// record is a struct of the kernel's: its size and where its members are.
type record struct {
	size int
	at   map[string]int
}

// layouts is what the kernel's memory is read by.
type layouts struct {
	thread, taskFile uint32 // what calls programs for threads, and for files
	structs          map[string]record
}

// wanted are the structs, and their members; what begins with "?" may be
// missing.
var wanted = map[string][]string{
	"file":            {"private_data"},
	"socket":          {"sk"},
	"socket_alloc":    {"vfs_inode"},
	"inode":           {"i_ino"},
	"sock":            {"sk_receive_queue", "sk_socket", "sk_peer_pid", "sk_peer_cred", "sk_shutdown", "?sk_scm_recv_flags"},
	"unix_sock":       {"addr", "peer", "?oob_skb"},
	"unix_address":    {"len", "name"},
	"sk_buff":         {"next", "sk", "len", "data_len", "head", "data", "end", "cb"},
	"sk_buff_head":    {"next", "qlen"},
	"skb_shared_info": {"nr_frags", "frags", "frag_list"},
	"?skb_frag":       {"netmem", "len", "offset"},        // Linux 6.9
	"?bio_vec":        {"bv_page", "bv_len", "bv_offset"}, // before
	"unix_skb_parms":  {"pid", "uid", "gid", "fp", "consumed"},
	"scm_fp_list":     {"count", "fp"},
	"pid":             {"level", "numbers"},
	"upid":            {"nr", "ns"},
	"cred":            {"euid", "egid", "group_info"},
	"group_info":      {"ngroups", "gid"},
	"page":            {},
}

// kernelTypes reads the types from the kernel's own description.
func kernelTypes() (*layouts, error) {
	x, err := kernelBTF()
	if err != nil {
		return nil, err
	}
	defer x.Close() //nolint:errcheck // nothing was written
	return findTypes(x)
}

func findTypes(x *bpf.Types) (*layouts, error) {
	t := &layouts{structs: map[string]record{}}
	found := map[string]bpf.Type{}
	err := x.Each(func(b *bpf.Type) bool {
		switch b.Kind {
		case bpf.KindFunc:
			if x.Named(b, "bpf_iter_task") {
				t.thread = b.ID
			} else if x.Named(b, "bpf_iter_task_file") {
				t.taskFile = b.ID
			}
		case bpf.KindStruct:
			for name := range wanted {
				if x.Named(b, trimOptional(name)) {
					found[name] = *b
				}
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if t.thread == 0 || t.taskFile == 0 {
		return nil, fmt.Errorf("%w: the kernel has no iterators over threads and files", ErrUnavailable)
	}
	for name, members := range wanted {
		if err := t.add(x, name, members, found); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func trimOptional(name string) string {
	if name[0] == '?' {
		return name[1:]
	}
	return name
}

// add finds the members of one struct.
func (t *layouts) add(x *bpf.Types, name string, members []string, found map[string]bpf.Type) error {
	b, ok := found[name]
	if !ok {
		if name[0] == '?' {
			return nil
		}
		return fmt.Errorf("%w: the kernel has no struct %s", ErrUnavailable, name)
	}
	r := record{size: int(b.Size), at: map[string]int{}}
	for _, m := range members {
		n := x.Member(&b, trimOptional(m))
		if n < 0 {
			fields, err := x.Fields(&b, trimOptional(m)) // in a member without a name
			if err != nil {
				return err
			}
			n = fields[0].Offset
		}
		if n >= 0 && n < maxOffset {
			r.at[trimOptional(m)] = n
		} else if m[0] != '?' && name[0] != '?' {
			return fmt.Errorf("%w: struct %s has no %s", ErrUnavailable, name, m)
		}
	}
	t.structs[trimOptional(name)] = r
	return nil
}
