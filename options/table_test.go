package options

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// criuLong are criu 4.2's long options: "!" marks those that --no- takes back,
// "=" a required and "?" an optional argument.
const criuLong = `
tree= leave-stopped leave-running restore-detached! restore-sibling! daemon!
images-dir= work-dir= log-file= join-ns= root= ext-unix-sk? help
tcp-established! close= log-pid! version evasive-devices! pidfile= veth-pair=
action-script= link-remap! shell-job! file-locks! page-server! address= port=
prev-images-dir= ms track-mem! auto-dedup! libdir= cpu-cap? force-irmap!
ext-mount-map= exec-cmd manage-cgroups? cgroup-root= inherit-fd= feature=
skip-mnt= enable-fs= enable-external-sharing enable-external-masters
freeze-cgroup= ghost-limit= irmap-scan-path= lsm-profile= timeout= external=
empty-ns= lazy-pages extra! experimental! all cgroup-props= cgroup-props-file=
cgroup-dump-controller= skip-in-flight! deprecated! display-stats!
weak-sysctls! status-fd= tcp-close! verbosity? ps-socket= stream! config=
no-default-config tls-cacert= tls-cacrl= tls-cert= tls-key= tls!
tls-no-cn-verify cgroup-yard= pre-dump-mode= file-validation=
skip-file-rwx-check! lsm-mount-context= network-lock= mntns-compat-mode!
unprivileged! ghost-fiemap! allow-uprobes!`

// criuShort are criu 4.2's short options in the form of getopt(3).
const criuShort = "dSsRt:hD:o:v::x::Vr:jJ:lW:L:M:"

func TestEveryCriuLongOption(t *testing.T) {
	have := map[string]*Option{}
	for _, o := range All() {
		for _, name := range []string{o.Name, o.Alias} {
			if name == "" {
				continue
			}
			if have[name] != nil {
				t.Errorf("--%s twice", name)
			}
			have[name] = o
		}
	}
	for _, word := range strings.Fields(criuLong) {
		name := strings.TrimRight(word, "!=?")
		o := have[name]
		if o == nil {
			t.Errorf("--%s is missing", name)
			continue
		}
		want := map[byte]ArgKind{'=': ArgRequired, '?': ArgOptional}[word[len(word)-1]]
		if o.Arg != want || o.Negatable != strings.HasSuffix(word, "!") || o.Own {
			t.Errorf("--%s: argument %d (want %d), negatable %t, own %t", name, o.Arg, want, o.Negatable, o.Own)
		}
		delete(have, name)
	}
	for name, o := range have {
		if !o.Own {
			t.Errorf("--%s is no option of criu 4.2 and not marked as Glis's own", name)
		}
	}
}

func TestEveryCriuShortOption(t *testing.T) {
	have := map[byte]ArgKind{}
	for _, o := range All() {
		if o.Short == 0 {
			continue
		}
		if _, twice := have[o.Short]; twice {
			t.Errorf("-%c twice", o.Short)
		}
		have[o.Short] = o.Arg
	}
	want := map[byte]ArgKind{}
	for i := 0; i < len(criuShort); i++ {
		if criuShort[i] != ':' {
			rest := criuShort[i+1:]
			want[criuShort[i]] = ArgKind(len(rest) - len(strings.TrimLeft(rest, ":")))
			if want[criuShort[i]] > ArgOptional {
				want[criuShort[i]] = ArgOptional
			}
			if i+1 < len(criuShort) && criuShort[i+1] != ':' {
				want[criuShort[i]] = ArgNone
			}
		}
	}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("short options %v, criu has %v", have, want)
	}
}

// TestTagsAreSound looks for mistakes in the tags.
func TestTagsAreSound(t *testing.T) {
	known := strings.Fields("opt alias arg implied no def min path clears group help rpc supported only by own")
	for _, v := range Verbs() {
		checkTags(t, reflect.TypeOf(New(v)).Elem(), known)
	}
	for _, o := range All() {
		for _, u := range o.Uses {
			where := string(u.Verb) + " --" + o.Name
			if u.Group == "" || u.Help == "" {
				t.Errorf("%s lacks a heading or a help text", where)
			}
			if (u.Support != Supported || u.Only != nil) && u.Reason == "" {
				t.Errorf("%s gives no reason", where)
			}
			root := reflect.TypeOf(New(u.Verb)).Elem()
			f := root.FieldByIndex(u.field)
			if f.Name == "_" && u.Support == Supported && f.Tag.Get("by") != "cli" {
				t.Errorf("%s is called supported, but no field holds it", where)
			}
			if (f.Type.Kind() == reflect.Bool) != (o.Arg == ArgNone) {
				t.Errorf("%s: a %s does not go with argument %q", where, f.Type, o.ArgName)
			}
			if c := f.Tag.Get("clears"); c != "" && u.Verb == VerbDump {
				if _, ok := root.FieldByName(c); !ok {
					t.Errorf("%s clears %s, which is no field", where, c)
				}
			}
		}
	}
}

// checkTags reports unknown keys, defaults that cannot be read and fields
// without a tag.
func checkTags(t *testing.T, typ reflect.Type, known []string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Anonymous {
			checkTags(t, f.Type, known)
			continue
		}
		if f.Tag == "" && f.Name != "ExecCmd" && f.Name != "TimeoutGiven" {
			t.Errorf("%s.%s has no tags", typ, f.Name)
		}
		for rest := string(f.Tag); rest != ""; {
			key, after, _ := strings.Cut(rest, ":\"")
			if !slices.Contains(known, strings.TrimSpace(key)) {
				t.Errorf("%s.%s: unknown tag %q", typ, f.Name, key)
			}
			_, rest, _ = strings.Cut(after, "\"")
		}
		if def := f.Tag.Get("def"); def != "" {
			if err := parse(reflect.New(f.Type).Elem(), f.Tag, def); err != nil {
				t.Errorf("%s.%s: default %q: %v", typ, f.Name, def, err)
			}
		}
	}
}

// TestSameGrammarForEveryVerb holds what fields of the same name in two
// structs must agree on.
func TestSameGrammarForEveryVerb(t *testing.T) {
	for _, o := range All() {
		for _, u := range o.Uses {
			f := reflect.TypeOf(New(u.Verb)).Elem().FieldByIndex(u.field)
			name, _, _ := strings.Cut(f.Tag.Get("opt"), ",")
			if name != o.Name || f.Tag.Get("arg") != o.ArgName || (f.Tag.Get("no") == "yes") != o.Negatable {
				t.Errorf("%s --%s is spelled differently elsewhere", u.Verb, o.Name)
			}
		}
	}
}
