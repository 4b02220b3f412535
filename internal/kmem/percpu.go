package kmem

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// percpuNames are the members that PerCPU needs.
func percpuNames() []string { return []string{"?bpf_array.pptrs"} }

// PerCPU returns where each CPU has its own part of what a pointer with the mark
// __percpu leads to. How far the parts are apart is told nowhere, but a map with
// a value for each CPU has both: that pointer and where the values are.
func (r *Reader) PerCPU(at Addr) ([]Addr, error) {
	if r.cpus == nil {
		if err := r.learnCPUs(); err != nil {
			return nil, fmt.Errorf("%w: find out where CPUs have their memory: %w", ErrUnavailable, err)
		}
	}
	out := make([]Addr, len(r.cpus))
	for i, off := range r.cpus {
		out[i] = at + off
	}
	return out, nil
}

// mostCPUs is more than any kernel has (CONFIG_NR_CPUS).
const mostCPUs = 8192

func (r *Reader) learnCPUs() (err error) {
	if !r.Has("bpf_array.pptrs") {
		return errors.New("the kernel doesn't say how such maps are made")
	}
	array, err := linux.BPFPerCPUArray(8)
	if err != nil {
		return err
	}
	defer unix.Close(array) //nolint:errcheck // nothing was written
	prog, err := linux.BPFLoadCall(percpuProgram(array), bpf.License)
	if err != nil {
		return err
	}
	defer unix.Close(prog) //nolint:errcheck // nothing was written
	at, err := r.PrivateOf(array)
	if err != nil {
		return err
	}
	common, err := r.Pointer(at + r.Off("bpf_array.pptrs"))
	if err != nil {
		return err
	}
	for cpu := range uint64(mostCPUs) {
		ctx := [ctxWords]uint64{cpu}
		if err := linux.BPFCall(prog, ctx[:]); err != nil {
			return err
		}
		if ctx[2] == 0 {
			break
		}
		r.cpus = append(r.cpus, Addr(ctx[2])-common)
	}
	if len(r.cpus) == 0 {
		return errors.New("there is no CPU")
	}
	return nil
}

// percpuProgram returns where the CPU that it is called with has its value, 0 if
// there is no such CPU.
//
//	r6 context, r10 end of the stack, where the key is
func percpuProgram(array int) []bpf.Insn {
	return bpf.Finish([]bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.MoveImm, 1, 0, 0, 0),
		bpf.In(bpf.Store64, 10, 1, -8, 0),
		bpf.In(bpf.Imm64, 1, bpf.PseudoMapFD, 0, array), bpf.In(0, 0, 0, 0, 0),
		bpf.In(bpf.Move, 2, 10, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, -8),
		bpf.In(bpf.Load64, 3, 6, ctxAddr, 0),
		bpf.In(bpf.Call, 0, 0, 0, bpf.MapLookupPerCPU),
		bpf.In(bpf.Store64, 6, 0, ctxResult, 0),
	})
}
