package remote

// LayBoot writes the code of a mapping call and does not start it.
func (t *Thread) LayBoot() bool { return t.startBoot() }

// Boot returns where that code is, 0 if the vdso has no room for it.
func (t *Thread) Boot() Addr { return t.boot }

// NoBoot makes the thread map and unmap by plain injected calls.
func (t *Thread) NoBoot() { t.boot = 0 }

var (
	ImageEnd = imageEnd
	Room     = room
)
