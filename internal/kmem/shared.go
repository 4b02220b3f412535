package kmem

// Shared is a Reader for several users, opened when the first of them needs it:
// what is found out about the kernel is found out once. A nil Shared has none.
type Shared struct {
	names  []string
	reader *Reader
	err    error
	ended  func() error
}

// Share returns a Reader that is not open yet, for members like Open's.
func Share(names ...string) *Shared { return &Shared{names: names} }

// Reader opens it. Errors are ErrUnavailable, and the same each time.
func (s *Shared) Reader() (*Reader, error) {
	switch {
	case s == nil:
		return nil, ErrUnavailable
	case s.reader == nil && s.err == nil:
		if s.reader, s.err = Open(s.names...); s.err == nil {
			s.reader.Until(s.ended)
		}
	}
	return s.reader, s.err
}

// Until is Reader.Until, be it open already or not. A nil Shared reads nothing.
func (s *Shared) Until(ended func() error) {
	if s == nil {
		return
	}
	if s.ended = ended; s.reader != nil {
		s.reader.Until(ended)
	}
}

// Open tells whether it is open.
func (s *Shared) Open() bool { return s != nil && s.reader != nil }

// Close closes what was opened.
func (s *Shared) Close() error {
	if s == nil || s.reader == nil {
		return nil
	}
	r := s.reader
	s.reader = nil
	return r.Close()
}
