package inspect

import (
	"fmt"
	"strings"
)

// descriptors prints a task's table. What an open file has inside, such as the
// members of an epoll, stands with the first descriptor only.
func (p *printer) descriptors(t *Task) {
	if t.DescriptorsOf != 0 {
		fmt.Fprintf(p.out, "  descriptors are those of task %d\n", t.DescriptorsOf)
		return
	}
	if len(t.Descriptors) == 0 {
		fmt.Fprintf(p.out, "  no descriptors\n")
		return
	}
	p.table(func(row func(...string)) {
		row("  FD", "KIND", "FLAGS", "WHAT")
		for _, d := range t.Descriptors {
			flags := d.open.Flags
			if d.CloseOn {
				flags = append(flags[:len(flags):len(flags)], "cloexec")
			}
			what, details := p.what(d.open), []string(nil)
			if first := d.open.Holders[0]; first != (Holder{t.PID, d.FD}) {
				what += fmt.Sprintf(" (shared with %s)", holderText(first))
			} else {
				details = p.details(d.open)
			}
			row(fmt.Sprintf("  %d", d.FD), d.Kind, strings.Join(flags, ","), strings.TrimSpace(what))
			for _, line := range details {
				row("", "", "", "  "+line)
			}
		}
	})
}

func holderText(h Holder) string { return fmt.Sprintf("task %d, descriptor %d", h.PID, h.FD) }

// where says which descriptors a file is open as.
func where(f *File) string {
	switch n := len(f.Holders); n {
	case 0:
		return "no descriptor"
	case 1:
		return holderText(f.Holders[0])
	default:
		return fmt.Sprintf("%s and %d more", holderText(f.Holders[0]), n-1)
	}
}

// what describes a file in one line.
func (p *printer) what(f *File) string {
	switch {
	case f.Socket != nil:
		return socketText(f.Socket)
	case f.Pipe != nil:
		return p.pipeText(f)
	case f.Terminal != nil:
		return terminalText(f)
	case f.Counter != nil:
		return fmt.Sprintf("counter %d", *f.Counter)
	case f.Signals != nil:
		return strings.Join(f.Signals, ", ")
	case f.Timer != nil:
		return timerText(f.Timer)
	case f.Members != nil:
		return count(len(f.Members), "member")
	case f.Watches != nil:
		return count(len(f.Watches), "inode") + " watched"
	case f.PID != nil:
		return fmt.Sprintf("of task %d", *f.PID)
	case f.Namespace != "":
		return f.Namespace
	}
	return fileText(f)
}

// fileText describes what has a name and a position.
func fileText(f *File) string {
	text := clean(f.Name)
	if f.Remap != "" {
		text += " (" + remapText(f.Remap) + ")"
	}
	if f.Size != nil && f.Kind == kindWords[typeMemfd] {
		text += ", " + bytesText(*f.Size)
	}
	if f.Position != nil && *f.Position != 0 {
		text += fmt.Sprintf(" at %d", *f.Position)
	}
	if len(f.Seals) > 0 {
		text += ", sealed: " + strings.Join(f.Seals, ",")
	}
	return text
}

func remapText(remap string) string {
	switch remap {
	case "ghost":
		return "deleted, kept in the images"
	case "linked":
		return "deleted, has another name"
	}
	return remap
}

// pipeText names the other ends and what is on its way to them.
func (p *printer) pipeText(f *File) string {
	const most = 3
	x := p.pipes[*f.Pipe]
	text := fmt.Sprintf("pipe %d", *f.Pipe)
	if f.Name != "" {
		text = clean(f.Name)
	}
	if x == nil {
		return text
	}
	arrow, ends := " → ", x.readers
	if len(f.Flags) > 0 && f.Flags[0] == "read" {
		arrow, ends = " ← ", x.writers
	}
	var names []string
	for _, end := range ends {
		if end == f {
			continue
		}
		if len(names) == most {
			names = append(names, "and others")
			break
		}
		names = append(names, where(end))
	}
	switch {
	case len(names) > 0:
		text += arrow + strings.Join(names, "; ")
	case len(ends) == 0:
		text += arrow + "nobody in the checkpoint"
	}
	if x.QueuedBytes > 0 {
		text += fmt.Sprintf(", %d bytes queued", x.QueuedBytes)
	}
	return text
}

func terminalText(f *File) string {
	text := clean(f.Name)
	if text == "" {
		text = f.Terminal.Type
	}
	if s := f.Terminal.Session; s != 0 {
		text += fmt.Sprintf(", terminal of session %d", s)
	}
	return text
}

func timerText(t *Timer) string {
	text := "clock " + t.Clock + ", "
	if t.RemainsUS == 0 && t.IntervalUS == 0 {
		return text + "not set"
	}
	text += "in " + micros(t.RemainsUS)
	if t.IntervalUS != 0 {
		text += ", then every " + micros(t.IntervalUS)
	}
	if t.Ticks != 0 {
		text += fmt.Sprintf(", %d times unread", t.Ticks)
	}
	return text
}

// socketText names both ends of a socket.
func socketText(s *Socket) string {
	text := s.Type
	if s.Protocol != "" {
		text = s.Protocol
	}
	if s.Local != "" {
		text += " " + clean(s.Local)
	}
	text += peerText(s)
	if s.State != "" {
		text += ", " + s.State
	}
	if s.State == stateListening {
		text += fmt.Sprintf(" (backlog %d)", s.Backlog)
	}
	if s.Waiting > 0 {
		text += fmt.Sprintf(", %s to be accepted", count(s.Waiting, "connection"))
	}
	if s.Shutdown != "" {
		text += ", shut down for " + map[string]string{"read": "reading", "write": "writing", "both": "both"}[s.Shutdown]
	}
	switch {
	case s.Messages > 0:
		text += fmt.Sprintf(", %s with %d bytes queued", count(s.Messages, "message"), s.QueuedBytes)
	case s.QueuedBytes > 0:
		text += fmt.Sprintf(", %d bytes to be read", s.QueuedBytes)
	}
	if s.QueuedFiles > 0 {
		text += fmt.Sprintf(", with %s", count(s.QueuedFiles, "file"))
	}
	if s.UnsentBytes > 0 {
		text += fmt.Sprintf(", %d bytes to be sent", s.UnsentBytes)
	}
	if w := s.Who; w != nil {
		what := "its peer is"
		if s.State == stateListening {
			what = "made by"
		}
		text += fmt.Sprintf(", %s process %d, user %d, group %d", what, w.PID, w.UID, w.GID)
	}
	return text
}

func peerText(s *Socket) string {
	switch {
	case s.peer != nil && s.Remote != "":
		return " ↔ " + clean(s.Remote) + " of " + where(s.peer)
	case s.peer != nil:
		return " ↔ " + where(s.peer)
	case s.Remote != "":
		return " ↔ " + clean(s.Remote)
	case s.PeerInode != 0:
		return fmt.Sprintf(" ↔ inode %d, outside the tree", s.PeerInode)
	}
	return ""
}

// details lists what is inside a file, and its options.
func (p *printer) details(f *File) []string {
	var lines []string
	for _, m := range f.Members {
		line := fmt.Sprintf("descriptor %d for %s, data %s", m.FD, strings.Join(m.Events, ","), m.Data)
		if m.open != nil {
			line += ": " + m.Kind
		}
		lines = append(lines, line)
	}
	for _, w := range f.Watches {
		line := fmt.Sprintf("watch %d for %s on ", w.ID, strings.Join(w.Events, ","))
		if w.Path != "" {
			line += clean(w.Path)
		} else {
			line += fmt.Sprintf("inode %d of device %#x", w.Inode, w.Device)
		}
		lines = append(lines, line)
	}
	var options []string
	for _, o := range f.Options {
		options = append(options, clean(o.Name)+"="+clean(o.Value))
	}
	if len(options) > 0 {
		lines = append(lines, "options: "+strings.Join(options, " "))
	}
	return lines
}
