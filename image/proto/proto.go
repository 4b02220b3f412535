// Package proto is what the messages of images have in common: reading and
// writing them. It has the names of google.golang.org/protobuf/proto, but
// messages know by themselves how they are encoded (image/proto/gen writes
// that down), so that a program that uses them starts at once: what it takes
// to prepare types that are described by data is longer than the whole dump of
// a small process. Tests compare both, message by message.
package proto

import (
	"bytes"
	"fmt"
)

// Message is an entry of an image.
type Message interface {
	// Reset empties the message.
	Reset()
	// ProtoName is the type's name in criu's schema: "core_entry".
	ProtoName() string
	// AppendFields appends the encoded fields, those that are not known behind
	// the others.
	AppendFields(b []byte) []byte
	// ReadField takes over the field that d stands at; false if the message
	// has no such field.
	ReadField(d *Decoder) bool
	// Missing names the first field that must be there but isn't; "" if none.
	Missing() string
	// Unknown returns the encoded fields that the message has no place for.
	Unknown() []byte
	// SetUnknown replaces them.
	SetUnknown(b []byte)
}

// Rest is the part of a message that holds fields it has no place for.
type Rest struct{ unknown []byte }

// Unknown implements Message.
func (r *Rest) Unknown() []byte { return r.unknown }

// SetUnknown implements Message.
func (r *Rest) SetUnknown(b []byte) { r.unknown = b }

// MarshalOptions say how a message is encoded.
type MarshalOptions struct {
	AllowPartial  bool // fields that must be there may be missing
	Deterministic bool // always so
}

// Marshal encodes a message.
func (o MarshalOptions) Marshal(m Message) ([]byte, error) { return o.MarshalAppend(nil, m) }

// MarshalAppend appends an encoded message.
func (o MarshalOptions) MarshalAppend(b []byte, m Message) ([]byte, error) {
	if !o.AllowPartial {
		if err := complete(m); err != nil {
			return b, err
		}
	}
	return m.AppendFields(b), nil
}

// UnmarshalOptions say what a message may be like that is decoded.
type UnmarshalOptions struct {
	AllowPartial bool // fields that must be there may be missing
}

// Unmarshal decodes b into m, whose own contents are lost. Nothing of b is
// kept.
func (o UnmarshalOptions) Unmarshal(b []byte, m Message) error {
	return o.with(&Decoder{}, b, m)
}

// Unmarshal is the function Unmarshal for many messages in turn: what their
// fields point to is in common pieces of memory. The zero value is ready.
func (d *Decoder) Unmarshal(b []byte, m Message) error {
	d.err = nil
	err := UnmarshalOptions{}.with(d, b, m)
	d.again = true
	return err
}

func (o UnmarshalOptions) with(d *Decoder, b []byte, m Message) error {
	m.Reset()
	if err := d.message(b, m); err != nil {
		return fmt.Errorf("%s: %w", m.ProtoName(), err)
	}
	if o.AllowPartial {
		return nil
	}
	return complete(m)
}

func complete(m Message) error {
	if s := m.Missing(); s != "" {
		return fmt.Errorf("required field %s not set", s)
	}
	return nil
}

// Marshal encodes a message, which must have all fields it must have.
func Marshal(m Message) ([]byte, error) { return MarshalOptions{}.Marshal(m) }

// Unmarshal decodes a message, which must have all fields it must have.
func Unmarshal(b []byte, m Message) error { return UnmarshalOptions{}.Unmarshal(b, m) }

// Size returns the length of an encoded message in bytes.
func Size(m Message) int { return len(m.AppendFields(nil)) }

// Equal tells whether two messages are of one type and say the same.
func Equal(a, b Message) bool {
	return a.ProtoName() == b.ProtoName() && bytes.Equal(a.AppendFields(nil), b.AppendFields(nil))
}

// Bool returns a pointer to v, as fields that may be missing are.
func Bool(v bool) *bool { return &v }

// Int32 returns a pointer to v, as fields that may be missing are.
func Int32(v int32) *int32 { return &v }

// Int64 returns a pointer to v, as fields that may be missing are.
func Int64(v int64) *int64 { return &v }

// Uint32 returns a pointer to v, as fields that may be missing are.
func Uint32(v uint32) *uint32 { return &v }

// Uint64 returns a pointer to v, as fields that may be missing are.
func Uint64(v uint64) *uint64 { return &v }

// String returns a pointer to v, as fields that may be missing are.
func String(v string) *string { return &v }
