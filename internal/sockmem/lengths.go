package sockmem

import (
	"fmt"

	"glis.dev/glis/internal/kmem"
)

// LengthNames are the members that Lengths needs.
func LengthNames() []string {
	return []string{"sock.sk_receive_queue", "unix_skb_parms.consumed"}
}

// Lengths returns how many bytes are left of each buffer that is queued at a
// unix stream, in order. 0 is a place where urgent data was that is read
// (MSG_OOB): only there a buffer stays that nothing is left of. sk is where the
// kernel has the socket, see Reader.Sock. Errors may be ErrUnavailable.
func Lengths(r *kmem.Reader, sk kmem.Addr) ([]int, error) {
	queue := sk + r.Off("sock.sk_receive_queue")
	var out []int
	at, err := r.Pointer(queue) // next comes first, as in a buffer
	for err == nil && at != queue {
		if len(out) == maxBuffers {
			return nil, fmt.Errorf("%w: more than %d buffers are in a queue", kmem.ErrUnavailable, maxBuffers)
		}
		var b *kmem.Struct
		if b, err = r.Struct("sk_buff", at); err != nil {
			break
		}
		size, gone := b.U32("sk_buff.len"), b.In("sk_buff.cb").U32("unix_skb_parms.consumed")
		if gone > size {
			return nil, errGone
		}
		out = append(out, int(size-gone))
		at = b.Pointer("sk_buff.next")
	}
	return out, err
}
