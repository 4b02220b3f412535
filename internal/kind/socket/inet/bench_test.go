package inet

import (
	"context"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/options"
)

// What an idle connection costs: while the tree is frozen, and at a restore.
func BenchmarkConnection(b *testing.B) {
	const many = 200
	o := &options.Dump{}
	o.TCPEstablished = true
	var fds []int
	for range many {
		p := paired(b, tcp4, "127.0.0.1")
		fds = append(fds, p.ends[0].Int(), p.ends[1].Int())
	}
	env, _ := environment(b, o, images{}, fds...)
	each := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(fds)), "ns/socket")
	}
	b.Run("flows", func(b *testing.B) {
		k := New()
		for b.Loop() {
			for _, f := range env.Tree.Files {
				if _, err := k.Flows(env, f); err != nil {
					b.Fatal(err)
				}
			}
		}
		each(b)
	})
	b.Run("dump", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			env.Images = images{}
			k := New()
			k.PrepareFor(len(fds), memory(b))
			b.StartTimer()
			for _, f := range env.Tree.Files {
				if !k.Match(f) {
					b.Fatal("no match")
				}
				if _, err := k.Dump(context.Background(), env, f); err != nil {
					b.Fatal(err)
				}
			}
		}
		each(b)
	})
	b.Run("restore", func(b *testing.B) {
		in, err := dumped(b, o, fds...)
		must(b, err)
		for _, n := range fds {
			must(b, tcp.Repair().Set(n))
		}
		for b.Loop() {
			restoreOnce(b, in)
		}
		each(b)
	})
}

// restoreOnce makes the connections of images, and ends them.
func restoreOnce(b *testing.B, in images) {
	nodes, err := planned(in)
	must(b, err)
	for _, n := range nodes {
		d, err := n.Create(context.Background(), &plan.Env{Log: slog.New(slog.DiscardHandler)})
		must(b, err)
		for _, o := range n.(plan.Resumer).Resume() {
			if o.Name != unix.TCP_REPAIR {
				must(b, o.Set(d.Int()))
			}
		}
		must(b, d.Close())
	}
}

// What reading all options of an end of a connection costs: by a call for each, and in
// bulk, by one program that reads the kernel's memory of all sockets. The kernel sets
// none in bulk: what is as on a new socket is not set, see BenchmarkOptions.
func BenchmarkReadOptions(b *testing.B) {
	const many = 200
	o := &options.Dump{}
	o.TCPEstablished = true
	var fds []int
	for range many {
		p := paired(b, tcp4, "127.0.0.1")
		fds = append(fds, p.ends[0].Int(), p.ends[1].Int())
	}
	each := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(fds)), "ns/socket")
	}
	env, _ := environment(b, o, images{}, fds...)
	k := New()
	k.PrepareFor(len(fds), memory(b))
	for _, f := range env.Tree.Files { // which asks the first of each group by calls
		if !k.Match(f) {
			b.Fatal("no match")
		}
		_, err := k.Flows(env, f)
		must(b, err)
	}
	const asked = 8 // they are in repair mode afterwards
	for _, f := range env.Tree.Files[:asked] {
		_, err := k.Dump(context.Background(), env, f)
		must(b, err)
	}
	one, err := k.kernel(sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP, connected: true})
	must(b, err)
	b.Run("one by one", func(b *testing.B) {
		for b.Loop() {
			for _, n := range fds {
				_, err := one.Save(n, make([]socket.Value, len(one.Table)), true)
				must(b, err)
			}
		}
		each(b)
	})
	b.Run("in bulk", func(b *testing.B) {
		for b.Loop() {
			clear(k.alike.tasks)
			must(b, k.alike.survey(env))
			for _, f := range env.Tree.Files[asked:] {
				if _, ok := k.alike.options(k.alike.tasks[f.Task][f.FD]); !ok {
					b.Fatal("memory doesn't tell")
				}
			}
		}
		each(b)
	})
}

// What the options of one TCP socket cost: read by a call each, and set, all of them
// or none. What they cost where they are read in bulk, BenchmarkReadOptions tells.
func BenchmarkOptions(b *testing.B) {
	s := sort{family: unix.AF_INET, protocol: unix.IPPROTO_TCP}
	n, err := s.like()
	must(b, err)
	defer unix.Close(n)
	k, err := New().kernel(s)
	must(b, err)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			_, err := k.Save(n, make([]socket.Value, len(k.Table)), true)
			must(b, err)
		}
	})
	fresh := k.New()
	b.Run("set none", func(b *testing.B) {
		for b.Loop() {
			must(b, k.Set(n, fresh.Values, socket.Early, socket.Last))
		}
	})
	b.Run("set all", func(b *testing.B) {
		var all []string
		for _, o := range k.Table {
			if o.Name != "SO_LOCK_FILTER" && k.Set(n, fresh.Values, socket.Early, socket.Last, o.Name) == nil {
				all = append(all, o.Name)
			}
		}
		for b.Loop() {
			must(b, k.Set(n, fresh.Values, socket.Early, socket.Last, all...))
		}
		b.ReportMetric(float64(len(all)), "options")
	})
}
