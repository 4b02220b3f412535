package task

import (
	"testing"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// BenchmarkAsk asks a thread for all its facets: one batch.
func BenchmarkAsk(b *testing.B) {
	pid := start(b, "many.c", "200")
	err := tracee.Run(func() error {
		task, err := freeze(pid)
		if err != nil {
			return err
		}
		facets := ThreadFacets()
		threads := task.Threads[1:]
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			if i%len(threads) == 0 {
				task.Arena.Reset()
			}
			th := threads[i%len(threads)]
			th.Thread = remote.Thread{Tgid: th.Tgid, TID: th.TID, Regs: th.Regs, Mask: th.Mask, XState: th.XState}
			th.SetSignal(23)
			q := &kind.Question{Env: &kind.DumpEnv{Tree: &scan.Tree{}}, Task: task, Thread: th, Batch: task.Arena.Batch(&th.Thread)}
			c := CoreHead(th)
			var answers []kind.Answer
			for _, f := range facets {
				a, err := f.Dump(q)
				if err != nil {
					return err
				}
				if a != nil {
					answers = append(answers, a)
				}
			}
			if err := q.Batch.Run(); err != nil {
				return err
			}
			for _, a := range answers {
				if err := a(c); err != nil {
					return err
				}
			}
		}
		b.StopTimer()
		return release(task)
	})
	if err != nil {
		b.Fatal(err)
	}
}
