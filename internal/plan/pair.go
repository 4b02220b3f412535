package plan

// Coupled is a Prepared node that a task may make by itself, along with another
// one, so that both are where they belong without ever having been in the
// engine.
type Coupled interface {
	Node
	// Couple returns the other one and whose doing it is to be, if both come
	// about by one call and some more on their descriptors, and in no other way
	// yet.
	Couple(env *Env) (other ID, who Identity, ok bool)
	// Make queues the call that makes both, with O_CLOEXEC if that is wanted, and
	// writes their numbers, of 4 bytes each, to an address. From then on they
	// count as made.
	Make(b Batcher, cloexec bool, both uint64)
	// Equip queues what has to be done to them; own is its descriptor.
	Equip(b Batcher, own, other int32)
}
