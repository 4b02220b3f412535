package proto

import "bytes"

// Encoded is a message that was encoded beforehand: it takes a fraction of the
// memory, and can only be written.
type Encoded struct {
	name    string
	bytes   []byte
	payload int64
}

// EncodedAs returns the message of a type's name that b is, with that many bytes of
// payload behind it. Nothing is copied.
func EncodedAs(name string, b []byte, payload int64) *Encoded { return &Encoded{name, b, payload} }

// Payload is how many bytes of payload follow it, as far as that was told.
func (e *Encoded) Payload() int64 { return e.payload }

// Encode encodes a message, which must be complete.
func Encode(m Message) (*Encoded, error) {
	b, err := MarshalOptions{}.MarshalAppend(nil, m)
	if err != nil {
		return nil, err
	}
	return &Encoded{name: m.ProtoName(), bytes: bytes.Clone(b)}, nil
}

// Size is the length of the encoded message, in bytes.
func (e *Encoded) Size() int { return len(e.bytes) }

// Reset implements Message.
func (e *Encoded) Reset() { e.bytes = nil }

// ProtoName implements Message.
func (e *Encoded) ProtoName() string { return e.name }

// AppendFields implements Message.
func (e *Encoded) AppendFields(b []byte) []byte { return append(b, e.bytes...) }

// ReadField implements Message: nothing is read.
func (e *Encoded) ReadField(*Decoder) bool { return false }

// Missing implements Message: a message that can be encoded lacks nothing.
func (e *Encoded) Missing() string { return "" }

// Unknown implements Message.
func (e *Encoded) Unknown() []byte { return nil }

// SetUnknown implements Message.
func (e *Encoded) SetUnknown([]byte) {}
