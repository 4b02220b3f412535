package plan

// ByID has a T for every file. Numbers of files are small, as a rule, and then it
// is as quick as a slice; what images say else takes no more memory than their
// files do. The zero value is ready. Find may be called by many at a time.
type ByID[T any] struct {
	low  []T
	rest map[ID]*T
}

// Expect makes room for n files. What is there already is lost.
func (b *ByID[T]) Expect(n int) { b.low, b.rest = make([]T, n+n/8+64), nil }

// Find returns what a file has; nil if At was not called for it, and its number is
// not small.
func (b *ByID[T]) Find(id ID) *T {
	if uint64(id) < uint64(len(b.low)) {
		return &b.low[id]
	}
	return b.rest[id]
}

// At returns what a file has: zero at first. It stays where it is until Expect.
func (b *ByID[T]) At(id ID) *T {
	if at := b.Find(id); at != nil {
		return at
	}
	if b.rest == nil {
		b.rest = map[ID]*T{}
	}
	at := new(T)
	b.rest[id] = at
	return at
}
