package kmem

import (
	"encoding/binary"
	"fmt"
)

// Buffer is what waits at a socket as one: a struct sk_buff.
type Buffer struct {
	*Struct
	Data []byte
}

// mostData is more than a buffer ever has, in bytes.
const mostData = 16 << 20

// fragSize is the size of a skb_frag_t: page, length, offset.
const fragSize = 16

// bufferNames are the members that Buffers needs.
func bufferNames() []string {
	return []string{
		"sk_buff", "sk_buff.next", "sk_buff.len", "sk_buff.data_len", "sk_buff.head", "sk_buff.data", "sk_buff.end", "sk_buff.cb",
		"skb_shared_info", "skb_shared_info.nr_frags", "skb_shared_info.frag_list", "skb_shared_info.frags",
	}
}

// Buffers calls fn with every buffer of a queue, a struct sk_buff_head, at most
// most of them.
func (r *Reader) Buffers(queue Addr, most int, fn func(*Buffer) error) error {
	at, err := r.Pointer(queue) // next comes first, as in a buffer
	for n := 0; err == nil && at != queue; n++ {
		if n == most {
			return fmt.Errorf("%w: more than %d buffers are in a queue", ErrUnavailable, most)
		}
		b := &Buffer{}
		if b, err = r.Buffer(at); err == nil {
			err = fn(b)
		}
		at = b.Pointer("sk_buff.next")
	}
	return err
}

// Buffer reads a buffer, with its data.
func (r *Reader) Buffer(at Addr) (*Buffer, error) {
	b := &Buffer{}
	var err error
	if b.Struct, err = r.Struct("sk_buff", at); err != nil {
		return b, err
	}
	return b, b.read(r, 0)
}

// read reads the data of the buffer: some lie beside its header, some on pages,
// some in further buffers.
func (b *Buffer) read(r *Reader, depth int) error {
	size, apart := b.U32("sk_buff.len"), b.U32("sk_buff.data_len")
	if size > mostData || apart > size || depth > 1 {
		return fmt.Errorf("%w: a buffer of %d bytes, %d apart", ErrUnavailable, size, apart)
	}
	b.Data = make([]byte, size-apart, size)
	if err := r.ReadAt(b.Data, b.Pointer("sk_buff.data")); err != nil {
		return err
	}
	if apart == 0 {
		return nil
	}
	info, err := r.Struct("skb_shared_info", b.Pointer("sk_buff.head")+Addr(b.U32("sk_buff.end")))
	if err != nil {
		return err
	}
	if err := b.readFrags(r, info); err != nil {
		return err
	}
	for next := info.Pointer("skb_shared_info.frag_list"); next != 0 && len(b.Data) < int(size); {
		more := &Buffer{}
		if more.Struct, err = r.Struct("sk_buff", next); err != nil {
			return err
		}
		if err := more.read(r, depth+1); err != nil {
			return err
		}
		b.Data = append(b.Data, more.Data...)
		next = more.Pointer("sk_buff.next")
	}
	if len(b.Data) != int(size) {
		return fmt.Errorf("%w: %d of a buffer's %d bytes are found", ErrUnavailable, len(b.Data), size)
	}
	return nil
}

func (b *Buffer) readFrags(r *Reader, info *Struct) error {
	ne := binary.NativeEndian
	n := int(info.U8("skb_shared_info.nr_frags"))
	frags := info.Raw("skb_shared_info.frags", n*fragSize)
	for ; len(frags) > 0; frags = frags[fragSize:] {
		size, offset := ne.Uint32(frags[8:]), ne.Uint32(frags[12:])
		if int(size) > cap(b.Data)-len(b.Data) {
			return fmt.Errorf("%w: a piece of %d bytes is too much for its buffer", ErrUnavailable, size)
		}
		at, err := r.Page(Addr(ne.Uint64(frags)))
		if err != nil {
			return err
		}
		piece := b.Data[len(b.Data) : len(b.Data)+int(size)]
		if err := r.ReadAt(piece, at+Addr(offset)); err != nil {
			return err
		}
		b.Data = b.Data[:len(b.Data)+int(size)]
	}
	return nil
}
