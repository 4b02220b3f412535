package kinds

import (
	"sync"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/inet"
	"glis.dev/glis/internal/kind/socket/lone"
	"glis.dev/glis/internal/kind/socket/netlink"
	"glis.dev/glis/internal/kind/socket/packet"
	"glis.dev/glis/internal/kind/socket/unix"
)

// option identifies an option of sockets.
type option struct{ level, name int }

var options = sync.OnceValue(func() map[option]*socket.Option {
	all := map[option]*socket.Option{}
	tables := append(inet.Tables(sys.AF_INET6), inet.Tables(sys.AF_INET)...)
	for _, t := range append(tables, append(lone.Tables(), unix.Table(), netlink.Table(), packet.Table())...) {
		for i := range t {
			if at := (option{t[i].Level, t[i].Opt}); all[at] == nil {
				all[at] = &t[i]
			}
		}
	}
	return all
})

// OptionName is the name of an option of sockets, as in C; "" if no table has
// it.
func OptionName(level, name int) string {
	if o := options()[option{level, name}]; o != nil {
		return o.Name
	}
	return ""
}

// InetOptions calls f for the options of an inet socket that criu's entry has,
// those of SOL_SOCKET not among them, in the order of the tables.
func InetOptions(family int, e socket.Entries, f func(name string, v socket.Value)) {
	seen := map[string]bool{}
	for _, t := range inet.Tables(family) {
		for _, o := range t {
			if o.Field == nil || seen[o.Name] || o.Level == sys.SOL_SOCKET {
				continue
			}
			if v, ok := o.Field.Get(&e); ok {
				seen[o.Name] = true
				f(o.Name, v)
			}
		}
	}
}
