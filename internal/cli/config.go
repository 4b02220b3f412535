package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"glis.dev/glis/options"
)

// fromFile is an option that stands in a configuration file.
type fromFile struct {
	file  string
	value options.Value
}

// configFile is a file to read; one that nobody named may be missing.
type configFile struct {
	path  string
	named bool
}

// configured returns the options of the configuration files, in criu's order:
// the machine's, the user's, the environment's, the command line's.
func (a *App) configured(p *parser, given []options.Value) ([]fromFile, error) {
	var all []fromFile
	for _, f := range a.configFiles(given) {
		args, err := readConfig(f)
		if err != nil {
			return nil, err
		}
		values, words, err := p.parse(args)
		if err != nil {
			return nil, fmt.Errorf("configuration file %s: %w", f.path, err)
		}
		if len(words) > 0 {
			return nil, fmt.Errorf("configuration file %s: %q is no option", f.path, words[0])
		}
		for _, v := range values {
			all = append(all, fromFile{"configuration file " + f.path, v})
		}
	}
	return all, nil
}

// configFiles lists the files to read. --config replaces the default files.
func (a *App) configFiles(given []options.Value) []configFile {
	var files []configFile
	own := ""
	for _, g := range given {
		if g.Option.Name == "config" {
			own = g.Arg
		}
	}
	if own == "" && !has(given, "no-default-config") {
		files = append(files, configFile{"/etc/criu/default.conf", false})
		if home := a.Getenv("HOME"); home != "" {
			files = append(files, configFile{filepath.Join(home, ".criu/default.conf"), false})
		}
	}
	for _, path := range []string{a.Getenv("CRIU_CONFIG_FILE"), own} {
		if path != "" {
			files = append(files, configFile{path, true})
		}
	}
	return files
}

// readConfig reads one file as command line arguments.
func readConfig(c configFile) ([]string, error) {
	f, err := os.Open(c.path)
	if err != nil {
		if c.named {
			return nil, fmt.Errorf("configuration file: %w", err)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) { // a home of /dev/null has none, either
			return nil, nil
		}
		return nil, fmt.Errorf("configuration file: %w; make it readable, or go without by --no-default-config", err)
	}
	defer f.Close()
	args, err := options.ParseConfig(f)
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", c.path, err)
	}
	return args, nil
}
