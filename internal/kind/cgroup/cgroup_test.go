package cgroup

import (
	"strings"
	"testing"

	cgimg "glis.dev/glis/image/criu/cgroup"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/options"
)

// image is a tree of which one task is in /a/b of a hierarchy.
func image() *cgimg.CgroupEntry {
	return &cgimg.CgroupEntry{
		Sets: []*cgimg.CgSetEntry{{Id: proto.Uint32(2), Ctls: []*cgimg.CgMemberEntry{{Name: proto.String("name=x"), Path: proto.String("/a/b")}}}},
		Controllers: []*cgimg.CgControllerEntry{{Cnames: []string{"name=x"}, Dirs: []*cgimg.CgroupDirEntry{{
			DirName: proto.String("a"), Properties: []*cgimg.CgroupPropEntry{{Name: proto.String("tasks"), Value: proto.String("")}},
			Children: []*cgimg.CgroupDirEntry{{DirName: proto.String("b")}},
		}}}},
	}
}

func restoring() *options.Restore {
	o := options.NewRestore()
	o.Cgroups = options.CgroupSoft
	return o
}

func TestNewMaker(t *testing.T) {
	m, err := NewMaker(image(), 1, restoring())
	if err != nil {
		t.Fatal(err)
	}
	for set, ok := range map[uint32]bool{0: true, 1: true, 2: true, 3: false} {
		if err := m.Check(set); (err == nil) != ok {
			t.Errorf("set %d: %v", set, err)
		}
	}
	if m, err := NewMaker(image(), 1, options.NewRestore()); m != nil || err != nil {
		t.Errorf("cgroups are not ignored: %v, %v", m, err)
	}
	o := restoring()
	o.CgroupRoots = []options.CgroupRoot{{Controller: "name=x", Path: "/new/root"}, {Path: "/others"}}
	if m, err = NewMaker(image(), 1, o); err != nil {
		t.Fatal(err)
	}
	if at := m.sets[2][0].path; at != "/new/root/b" {
		t.Errorf("moved to %s", at)
	}
	if at := m.mounts[0].dirs[1].path; at != "/new/root/b" {
		t.Errorf("the cgroup is made as %s", at)
	}
}

// What images may not ask for.
func TestHostile(t *testing.T) {
	for name, spoil := range map[string]func(*cgimg.CgroupEntry){
		"leads out":            func(e *cgimg.CgroupEntry) { e.Sets[0].Ctls[0].Path = proto.String("/a/../../b") },
		"leads out of its own": func(e *cgimg.CgroupEntry) { e.Controllers[0].Dirs[0].Children[0].DirName = proto.String("..") },
		"name of a property":   func(e *cgimg.CgroupEntry) { e.Controllers[0].Dirs[0].Properties[0].Name = proto.String("../tasks") },
		"no such name":         func(e *cgimg.CgroupEntry) { e.Controllers[0].Cnames[0] = "name=a/b" },
		"without a name":       func(e *cgimg.CgroupEntry) { e.Controllers[0].Cnames = nil },
		"is missing":           func(e *cgimg.CgroupEntry) { e.Controllers = nil },
		"there twice":          func(e *cgimg.CgroupEntry) { e.Sets = append(e.Sets, e.Sets[0]) },
		"hierarchy twice":      func(e *cgimg.CgroupEntry) { e.Controllers = append(e.Controllers, e.Controllers[0]) },
		"cgroup namespace":     func(e *cgimg.CgroupEntry) { e.Sets[0].Ctls[0].CgnsPrefix = proto.Uint32(2) },
		"too many": func(e *cgimg.CgroupEntry) {
			for d, i := e.Controllers[0].Dirs[0], 0; i < 2*mostDepth; i++ {
				c := &cgimg.CgroupDirEntry{DirName: proto.String("c")}
				d.Children, d = append(d.Children, c), c
			}
		},
	} {
		e := image()
		spoil(e)
		if _, err := NewMaker(e, 1, restoring()); err == nil {
			t.Errorf("%s: it is taken", name)
		} else if !strings.HasPrefix(err.Error(), "cgroup.img: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzNewMaker(f *testing.F) {
	seed, err := proto.Marshal(image())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, "/new")
	f.Fuzz(func(t *testing.T, b []byte, root string) {
		e := &cgimg.CgroupEntry{}
		if proto.Unmarshal(b, e) != nil {
			return
		}
		o := restoring()
		if root != "" {
			o.CgroupRoots = []options.CgroupRoot{{Path: root}}
		}
		_, _ = NewMaker(e, 1, o)
	})
}

func TestControl(t *testing.T) {
	for _, x := range [][3]string{{"", "", ""}, {"cpu", "cpu", ""}, {"cpu io", "io pids", "-cpu +pids"}, {"", "memory", "+memory"}} {
		if got := control(x[0], x[1]); got != x[2] {
			t.Errorf("%q to %q: %q", x[0], x[1], got)
		}
	}
}

func TestWanted(t *testing.T) {
	more := []options.CgroupSpec{{Controller: "pids", Replace: true, Names: []string{"pids.new"}}, {Controller: "cpu", Names: []string{"cpu.more"}}}
	got := strings.Join(wanted("cpu,pids", more), " ")
	for word, want := range map[string]bool{"cpu.shares": true, "cpu.more": true, "pids.max": false, "pids.new": true, "tasks": true} {
		if strings.Contains(got, word) != want {
			t.Errorf("%s: %s", word, got)
		}
	}
	for _, s := range special {
		if s == "memory.use_hierarchy" {
			continue
		}
		if !strings.Contains(strings.Join(wanted("cpuset,devices,memory", nil), " ")+strings.Join(wanted("", nil), " "), s) {
			t.Errorf("%s is special, but not saved", s)
		}
	}
}
