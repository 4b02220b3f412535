package inspect

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printer writes a report for a person. Columns are aligned section by
// section; errors are kept by the bufio.Writer until the end.
type printer struct {
	*Report
	out      *bufio.Writer
	children map[uint32][]*Task
	pipes    map[uint32]*Pipe
}

// WriteText writes the report for a person at a terminal. What comes from the
// images is printed with control characters, and all that is not text, escaped
// as in Go.
func (r *Report) WriteText(w io.Writer) error {
	p := &printer{Report: r, out: bufio.NewWriter(w), children: map[uint32][]*Task{}, pipes: map[uint32]*Pipe{}}
	for _, t := range r.Tasks {
		p.children[t.Parent] = append(p.children[t.Parent], t)
	}
	for _, x := range r.Pipes {
		p.pipes[x.ID] = x
	}
	p.header()
	p.tree()
	for _, t := range r.Tasks {
		if t.alive() {
			p.task(t)
		}
	}
	p.shared()
	p.locks()
	p.unread()
	return p.out.Flush()
}

// table writes rows in aligned columns.
func (p *printer) table(write func(row func(cells ...string))) {
	tw := tabwriter.NewWriter(&trimmer{w: p.out}, 0, 8, 2, ' ', tabwriter.DiscardEmptyColumns)
	write(func(cells ...string) { _, _ = io.WriteString(tw, strings.Join(cells, "\t")+"\n") })
	_ = tw.Flush() // p.out keeps the error
}

// trimmer leaves out the spaces at the end of lines.
type trimmer struct {
	w      *bufio.Writer
	spaces int
}

func (t *trimmer) Write(b []byte) (int, error) {
	for _, c := range b {
		switch c {
		case ' ':
			t.spaces++
			continue
		case '\n':
			t.spaces = 0
		}
		for ; t.spaces > 0; t.spaces-- {
			_ = t.w.WriteByte(' ') // the bufio.Writer keeps the error
		}
		_ = t.w.WriteByte(c)
	}
	return len(b), nil
}

func (p *printer) header() {
	fmt.Fprintf(p.out, "Checkpoint in %s\n", clean(p.Directory))
	p.table(func(row func(...string)) {
		row("  format", fmt.Sprintf("criu images, version %s", p.ImageVersion))
		if p.MadeBy == "glis" {
			row("  made by", "Glis")
		} else {
			row("  made by", "criu, or a program that writes the same")
		}
		if when := p.whenText(); when != "" {
			row("  when", when)
		}
		row("  tasks", p.countText())
		row("  size", fmt.Sprintf("%s in %s", bytesText(p.Bytes), count(p.FileCount, "file")))
		if p.Checksums != "" {
			row("  checksums", p.Checksums+", see glis verify for pages")
		}
		if d := p.Dump; d != nil {
			row("  dump", fmt.Sprintf("frozen for %s, %s of memory written", micros(uint64(d.FrozenUS)), bytesText(pages(d.PagesWritten))))
		}
	})
}

func (p *printer) whenText() string {
	var parts []string
	if p.When != nil {
		parts = append(parts, p.When.Local().Format("2006-01-02 15:04:05 MST"))
	}
	if p.UptimeUS != 0 {
		parts = append(parts, micros(p.UptimeUS)+" after the machine started")
	}
	return strings.Join(parts, ", ")
}

func (p *printer) countText() string {
	text := fmt.Sprint(p.TaskCount)
	if p.ZombieCount > 0 {
		text += fmt.Sprintf(" (%d of them ended)", p.ZombieCount)
	}
	text += ", with " + count(p.ThreadCount, "thread")
	if p.Machine != "" {
		text += "; " + p.Machine
	}
	return text
}

// tree prints the tasks below their parents.
func (p *printer) tree() {
	fmt.Fprintf(p.out, "\nTasks\n")
	p.table(func(row func(...string)) {
		row("  PID", "NAME", "STATE", "THREADS", "UID", "MEMORY", "STORED")
		for _, root := range p.children[0] {
			p.branch(row, root)
		}
	})
}

// level is one task on the way from the root to where the tree is printed.
type level struct {
	rest   []*Task // siblings still to be printed
	indent string  // in front of their lines
}

// branch prints a task and all below it. Its own stack lets the tree be as deep
// as an image says, while the indent stays within reason.
func (p *printer) branch(row func(...string), root *Task) {
	const deepest = 64
	p.treeLine(row, "  ", root)
	stack := []level{{p.children[root.PID], "  "}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.rest) == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		t := top.rest[0]
		top.rest = top.rest[1:]
		line, below := "├─ ", "│  "
		if len(top.rest) == 0 {
			line, below = "└─ ", "   "
		}
		p.treeLine(row, top.indent+line, t)
		indent := top.indent
		if len(stack) < deepest {
			indent += below
		}
		stack = append(stack, level{p.children[t.PID], indent})
	}
}

func (p *printer) treeLine(row func(...string), indent string, t *Task) {
	cells := []string{indent + fmt.Sprint(t.PID), clean(t.Name), t.State}
	switch {
	case !t.alive():
		cells[2] += exitText(t.Exit)
	case t.StopSignal != "":
		cells[2] += " by " + t.StopSignal
	}
	switch {
	case !t.alive():
		// Cells that are missing would end the columns for the rows below.
		cells = append(cells, "", "", "", "")
	case t.MemoryOf != 0:
		cells = append(cells, fmt.Sprint(len(t.Threads)), fmt.Sprint(t.UID), fmt.Sprintf("that of %d", t.MemoryOf), "")
	default:
		cells = append(cells, fmt.Sprint(len(t.Threads)), fmt.Sprint(t.UID), bytesText(t.MappedBytes), bytesText(t.StoredBytes))
	}
	row(cells...)
}

func exitText(exit string) string {
	if exit == "" {
		return ""
	}
	return ", " + exit
}

// task prints all that is known of one task.
func (p *printer) task(t *Task) {
	fmt.Fprintf(p.out, "\nTask %d: %s\n", t.PID, clean(t.Name))
	p.table(func(row func(...string)) {
		for _, line := range [][2]string{
			{"  executable", clean(t.Exe)}, {"  directory", clean(t.Cwd)}, {"  root", clean(t.Root)},
			{"  session", fmt.Sprintf("%d, process group %d", t.Session, t.Group)},
			{"  uid, gid", fmt.Sprintf("%d, %d", t.UID, t.GID)},
			{"  namespaces", strings.Join(t.Namespaces, ", ")}, {"  seccomp", t.Seccomp}, {"  threads", threadsText(t)},
		} {
			if line[1] != "" {
				row(line[0], line[1])
			}
		}
	})
	p.memory(t)
	p.descriptors(t)
}

// threadsText lists the threads that are not the leader.
func threadsText(t *Task) string {
	const most = 16
	var names []string
	for i, th := range t.Threads {
		if len(names) == most {
			names = append(names, fmt.Sprintf("and %d more", len(t.Threads)-i))
			break
		}
		if th.TID != t.PID {
			names = append(names, strings.TrimSpace(fmt.Sprintf("%d %s", th.TID, clean(th.Name))))
		}
	}
	return strings.Join(names, ", ")
}

func (p *printer) memory(t *Task) {
	if t.MemoryOf != 0 {
		fmt.Fprintf(p.out, "  memory is that of task %d\n", t.MemoryOf)
		return
	}
	p.table(func(row func(...string)) {
		head := []string{"  MEMORY", "MAPPINGS", "MAPPED", "STORED"}
		if t.InParentBytes > 0 {
			head = append(head, "IN PARENT")
		}
		row(head...)
		for _, m := range t.Memory {
			cells := []string{"  " + m.Kind, fmt.Sprint(m.Mappings), bytesText(m.MappedBytes), bytesText(m.StoredBytes)}
			if t.InParentBytes > 0 {
				cells = append(cells, bytesText(m.InParentBytes))
			}
			row(cells...)
		}
	})
}

// shared prints the memory that belongs to no task alone.
func (p *printer) shared() {
	if len(p.Shared) == 0 {
		return
	}
	fmt.Fprintf(p.out, "\nShared memory\n")
	p.table(func(row func(...string)) {
		row("  ID", "KIND", "NAME", "SIZE", "STORED", "TASKS")
		for _, s := range p.Shared {
			size := ""
			if s.Size != nil {
				size = bytesText(*s.Size)
			}
			row(fmt.Sprintf("  %d", s.ID), s.Kind, clean(s.Name), size, bytesText(s.StoredBytes), pidsText(s.Tasks))
		}
	})
}

func pidsText(pids []uint32) string {
	const most = 16
	var all []string
	for i, pid := range pids {
		if i == most {
			all = append(all, fmt.Sprintf("and %d more", len(pids)-i))
			break
		}
		all = append(all, fmt.Sprint(pid))
	}
	return strings.Join(all, ", ")
}

func (p *printer) locks() {
	if len(p.Locks) == 0 {
		return
	}
	fmt.Fprintf(p.out, "\nFile locks\n")
	p.table(func(row func(...string)) {
		row("  TASK", "FD", "KIND", "TYPE", "FROM", "LENGTH")
		for _, l := range p.Locks {
			length := fmt.Sprint(l.Len)
			if l.Len == 0 {
				length = "to the end"
			}
			task, fd := fmt.Sprint(l.PID), fmt.Sprint(l.FD)
			if l.File != 0 {
				task, fd = "in a message", fmt.Sprintf("file %#x", l.File)
			}
			row("  "+task, fd, l.Kind, l.Type, fmt.Sprint(l.Start), length)
		}
	})
}

// unread names the files that nothing was taken from.
func (p *printer) unread() {
	for _, list := range []struct {
		head  string
		names []string
	}{{"Other images", p.OtherImages}, {"Other files", p.OtherFiles}} {
		if len(list.names) == 0 {
			continue
		}
		fmt.Fprintf(p.out, "\n%s\n", list.head)
		for _, name := range list.names {
			fmt.Fprintf(p.out, "  %s\n", clean(name))
		}
	}
}

// micros writes a time given in microseconds.
func micros(us uint64) string {
	const most = 1 << 53
	d := time.Duration(min(us, most)) * time.Microsecond
	switch {
	case d >= time.Minute:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		d = d.Round(10 * time.Microsecond)
	}
	return d.String()
}

func count[T int | uint64](n T, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// pages is the size of n pages.
func pages(n uint64) uint64 {
	const most = 1 << 51
	return min(n, most) * 4096
}

// bytesText writes a size as people read it.
func bytesText(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + units[i:i+1] + "iB"
}
