// Command goroutines keeps a Go runtime busy (a ring of goroutines, timers,
// locked threads, garbage) and appends a counter to the file "count". It ends
// with status 1 when anything it computes is wrong.
package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

const ringSize = 200

func main() {
	count, err := os.OpenFile("count", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(err)
	var laps, garbage, locked atomic.Int64
	go ring(&laps)
	for range 4 {
		go litter(&garbage)
	}
	for range 3 {
		go lock(&locked)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		<-tick.C
		// Every part must go on, or the counter does not.
		l, g, k := laps.Load(), garbage.Load(), locked.Load()
		for laps.Load() == l || garbage.Load() == g || locked.Load() == k {
			<-time.After(time.Millisecond)
		}
		_, err := fmt.Fprintln(count, n)
		check(err)
	}
}

// ring passes a number around; each member adds one.
func ring(laps *atomic.Int64) {
	first := make(chan int)
	in := first
	for range ringSize {
		out := make(chan int)
		go func(in, out chan int) {
			for n := range in {
				out <- n + 1
			}
		}(in, out)
		in = out
	}
	for want := 0; ; want += ringSize {
		first <- want
		if got := <-in; got != want+ringSize {
			fail("ring returned %d, want %d", got, want+ringSize)
		}
		laps.Add(1)
	}
}

// litter allocates, checks and drops memory.
func litter(done *atomic.Int64) {
	keep := make([][]byte, 64)
	sums := make([]uint32, 64)
	for i := 0; ; i++ {
		j := i % len(keep)
		if crc32.ChecksumIEEE(keep[j]) != sums[j] {
			fail("block %d changed", j)
		}
		keep[j] = make([]byte, 1+i%20000)
		for b := range keep[j] {
			keep[j][b] = byte(b * i)
		}
		sums[j] = crc32.ChecksumIEEE(keep[j])
		if i%500 == 0 {
			runtime.GC()
		}
		done.Add(1)
		time.Sleep(100 * time.Microsecond)
	}
}

// lock stays on a thread of its own.
func lock(done *atomic.Int64) {
	runtime.LockOSThread()
	for {
		time.Sleep(time.Millisecond)
		done.Add(1)
	}
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	_ = os.WriteFile("error", []byte(msg), 0o644)
	os.Exit(1)
}
