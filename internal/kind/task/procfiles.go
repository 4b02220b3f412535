package task

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// ProcFiles are attributes of a process that are files of /proc: how likely it
// is to be killed when memory runs out, and which memory goes into core files.
type ProcFiles struct{}

const (
	oomFile, coreFile = "oom_score_adj", "coredump_filter"
	usualCoreFilter   = 0x33 // MMF_DUMP_FILTER_DEFAULT
)

// Name implements kind.Facet.
func (ProcFiles) Name() string { return "oom_score_adj and coredump_filter" }

// Dump implements kind.Facet.
func (ProcFiles) Dump(q *kind.Question) (kind.Answer, error) {
	oom, err := readNumber(q, oomFile, 10)
	if err != nil {
		return nil, err
	}
	filter, err := readNumber(q, coreFile, 16)
	if err != nil && !errors.Is(err, unix.ENOENT) { // without CONFIG_ELF_CORE
		return nil, err
	}
	return func(c *core.CoreEntry) error {
		v := int32(oom)
		c.Tc.OomScoreAdj = &v
		if err == nil && filter != usualCoreFilter {
			putExtra(c, extraCoreFilter, binary.LittleEndian.AppendUint32(nil, uint32(filter)))
		}
		return nil
	}, nil
}

func readNumber(q *kind.Question, file string, base int) (int64, error) {
	b, err := q.Task.Dir.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("%v: %w", q.Task, err)
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), base, 64)
	if err != nil {
		return 0, fmt.Errorf("%v: %s: %w", q.Task, file, err)
	}
	return v, nil
}

// Check implements kind.Checker: without CAP_SYS_RESOURCE a process can't be
// made less likely to be killed than the engine, which it begins as.
func (ProcFiles) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	want := c.GetTc().GetOomScoreAdj()
	if want < -1000 || want > 1000 {
		return fmt.Errorf("core image: oom_score_adj of %d makes no sense", want)
	}
	if env.Capable(unix.CAP_SYS_RESOURCE) || want >= 0 {
		return nil
	}
	b, err := fd.ReadFile("/proc/self/" + oomFile)
	if err != nil {
		return err
	}
	if own, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || int(want) < own {
		return fmt.Errorf("oom_score_adj of %d cannot come back: Glis has %d itself and lacks CAP_SYS_RESOURCE; give it that capability or a lower oom_score_adj", want, own)
	}
	return nil
}

// Restore implements kind.Facet. The engine writes the files itself, so the
// task needs no /proc of its own.
func (ProcFiles) Restore(r *kind.Redo) error {
	dir := fmt.Sprintf("/proc/%d/", r.Host)
	if v := r.Leader.GetTc().OomScoreAdj; v != nil {
		if err := writeFile(dir+oomFile, strconv.Itoa(int(*v))); err != nil {
			return err
		}
	}
	filter := uint32(usualCoreFilter)
	b, err := sized(r.Extra, extraCoreFilter, 4)
	if err != nil {
		return err
	}
	if b != nil {
		filter = binary.LittleEndian.Uint32(b)
	}
	err = writeFile(dir+coreFile, fmt.Sprintf("%#x", filter))
	if b == nil && errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
