package options

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 1 << 20

// ParseConfig reads a configuration file and returns it as command line
// arguments, one for each line that says something: "--name" or
// "--name=value". The form is criu's: the name without dashes, white space,
// and a value that may stand in double quotes, in which \" is a quote; # begins
// a comment. The error names the line.
func ParseConfig(r io.Reader) ([]string, error) {
	var args []string
	in := bufio.NewScanner(io.LimitReader(r, maxConfig+1))
	in.Buffer(nil, maxConfig)
	read := 0
	for n := 1; in.Scan(); n++ {
		if read += len(in.Bytes()) + 1; read > maxConfig {
			return nil, fmt.Errorf("line %d: the file is larger than %d bytes", n, maxConfig)
		}
		arg, err := parseStatement(in.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if arg != "" {
			args = append(args, arg)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("reading after %d bytes: %w", read, err)
	}
	return args, nil
}

// blanks is what separates the words of a line.
const blanks = " \t\r\v\f"

// parseStatement reads one line; it returns "" for one that says nothing.
func parseStatement(line string) (string, error) {
	line = strings.TrimLeft(line, blanks)
	end := strings.IndexAny(line, blanks+"#")
	if end < 0 {
		end = len(line)
	}
	name, rest := line[:end], strings.TrimLeft(line[end:], blanks)
	if name == "" {
		return "", nil
	}
	value, rest, given, err := parseValue(rest)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	rest = strings.TrimLeft(rest, blanks)
	if rest != "" && rest[0] != '#' {
		return "", fmt.Errorf("%s: more than one value; put a value with blanks in double quotes", name)
	}
	if !given {
		return "--" + name, nil
	}
	return "--" + name + "=" + value, nil
}

// parseValue cuts the value off the front of s and tells whether there is one.
func parseValue(s string) (value, rest string, given bool, err error) {
	if s == "" || s[0] == '#' {
		return "", s, false, nil
	}
	if s[0] != '"' {
		end := strings.IndexAny(s, blanks+"#")
		if end < 0 {
			end = len(s)
		}
		return strings.ReplaceAll(s[:end], `\"`, `"`), s[end:], true, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true, nil
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false, fmt.Errorf("the closing quote is missing")
}
