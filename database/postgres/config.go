package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"slipway/database"
)

const (
	configLimit = 1 << 20
	maxIncludes = 100
)

// settings are a server's settings by name, in lower case.
type settings map[string]string

// on tells whether an option that can be off is not.
func (s settings) on(name string) bool {
	switch strings.ToLower(s[name]) {
	case "", "off", "false", "no", "0", "f", "n":
		return false
	}
	return true
}

// assignment is one line of a configuration file.
type assignment struct{ name, value string }

// parseConfig reads the format of postgresql.conf. Lines that the server would not understand are left out.
func parseConfig(data []byte) []assignment {
	var out []assignment
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		end := strings.IndexFunc(line, func(r rune) bool { return !nameRune(r) })
		if end <= 0 {
			continue
		}
		name, rest := strings.ToLower(line[:end]), strings.TrimSpace(line[end:])
		rest = strings.TrimSpace(strings.TrimPrefix(rest, "="))
		if value, ok := configValue(rest); ok {
			out = append(out, assignment{name, value})
		}
	}
	return out
}

func nameRune(r rune) bool {
	return r == '_' || r == '.' || r == '$' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r >= 0x80
}

// configValue reads a quoted or bare value at the start of s.
func configValue(s string) (string, bool) {
	if !strings.HasPrefix(s, "'") {
		if end := strings.IndexAny(s, "# \t\r"); end >= 0 {
			s = s[:end]
		}
		return s, s != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'' && i+1 < len(s) && s[i+1] == '\'':
			b.WriteByte('\'')
			i++
		case c == '\'':
			return b.String(), true
		case c == '\\' && i+1 < len(s):
			i += unescape(&b, s[i+1:])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// unescape writes what the text after a backslash stands for and returns how many bytes that took.
func unescape(b *strings.Builder, s string) int {
	digits := 0
	for digits < 3 && digits < len(s) && s[digits] >= '0' && s[digits] <= '7' {
		digits++
	}
	if digits > 0 {
		n, _ := strconv.ParseUint(s[:digits], 8, 16)
		b.WriteByte(byte(n)) //nolint:gosec // as the server does: the low eight bits
		return digits
	}
	if i := strings.IndexByte("bfnrt", s[0]); i >= 0 {
		b.WriteByte("\b\f\n\r\t"[i])
	} else {
		b.WriteByte(s[0])
	}
	return 1
}

// configLine writes an assignment as the server's own ALTER SYSTEM does.
func configLine(name, value string) string {
	return name + " = '" + strings.NewReplacer(`'`, `''`, `\`, `\\`, "\n", `\n`).Replace(value) + "'\n"
}

// parseArgs finds settings in the server's argument list, wherever in the list they stand: -c name=value,
// --name=value, and -D. A container's entrypoint passes them on.
func parseArgs(args []string) settings {
	s := settings{}
	set := func(kv string) {
		name, value, ok := strings.Cut(kv, "=")
		name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
		if ok && name != "" && strings.IndexFunc(name, func(r rune) bool { return !nameRune(r) }) < 0 {
			s[name] = value
		}
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case (arg == "-c" || arg == "-D") && i+1 < len(args):
			i++
			if arg == "-D" {
				s["-D"] = args[i]
			} else {
				set(args[i])
			}
		case strings.HasPrefix(arg, "--"):
			set(arg[2:])
		case strings.HasPrefix(arg, "-c"):
			set(arg[2:])
		case strings.HasPrefix(arg, "-D"):
			s["-D"] = arg[2:]
		}
	}
	return s
}

// loader reads a configuration file and what it includes.
type loader struct {
	files    database.Files
	out      settings
	includes int
}

func (l *loader) load(file string) error {
	if l.includes++; l.includes > maxIncludes {
		return fmt.Errorf("%s: too many configuration files", file)
	}
	data, err := l.files.Read(file, configLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the server will say so itself, if it matters
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	for _, a := range parseConfig(data) {
		switch a.name {
		case "include", "include_if_exists":
			if err := l.load(resolve(path.Dir(file), a.value)); err != nil {
				return err
			}
		case "include_dir":
			if err := l.loadDir(resolve(path.Dir(file), a.value)); err != nil {
				return err
			}
		default:
			l.out[a.name] = a.value
		}
	}
	return nil
}

// loadDir reads the *.conf files of a directory in the server's order.
func (l *loader) loadDir(dir string) error {
	names, err := l.files.List(dir, maxIncludes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".conf") && !strings.HasPrefix(n, ".") {
			if err := l.load(path.Join(dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

func resolve(dir, file string) string {
	if path.IsAbs(file) {
		return path.Clean(file)
	}
	return path.Join(dir, file)
}
