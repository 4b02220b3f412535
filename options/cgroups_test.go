package options

import (
	"reflect"
	"testing"
)

func TestCgroupSpecs(t *testing.T) {
	var l CgroupSpecs
	err := l.Set("\"c1\":\n - \"strategy\": \"merge\"\n - \"properties\": [\"a\", \"b\"]\n \"c2\":\n - \"strategy\": \"replace\"\n - \"properties\": [ ]\n")
	want := CgroupSpecs{{"c1", false, []string{"a", "b"}}, {"c2", true, nil}}
	if err != nil || !reflect.DeepEqual(l, want) {
		t.Errorf("%v, %v", l, err)
	}
	for _, s := range []string{
		"c1:", `"c1": - "strategy": "other" - "properties": ["a"]`, `"c1": - "strategy": "merge"`,
		`"c1": - "strategy": "merge" - "properties": ["../a"]`, `"c1": - "strategy": "merge" - "properties": ["a",]`,
	} {
		if err := new(CgroupSpecs).Set(s); err == nil {
			t.Errorf("%s is taken", s)
		}
	}
}

func TestCgroupRoot(t *testing.T) {
	for s, want := range map[string]CgroupRoot{"/a": {"", "/a"}, "cpu:/a/b": {"cpu", "/a/b"}, "name=systemd:/": {"name=systemd", "/"}} {
		var r CgroupRoot
		if err := r.Set(s); err != nil || r != want {
			t.Errorf("%s: %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "a", "cpu:", "cpu:a", ":/a", "/a/../b"} {
		if err := new(CgroupRoot).Set(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	r := CgroupRoot{"cpuacct", "/"}
	if !r.For("cpu,cpuacct") || r.For("cpu") {
		t.Error("controllers that are mounted together")
	}
}
