package job

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// RootVariable is the environment variable that has the path of the container's root.
const RootVariable = "CONTAINER_ROOT"

// Expand replaces %CONTAINER_ROOT% in s, in whatever case it is written, by root.
// No other variable is replaced: that is the work of the program or of its shell.
func Expand(s, root string) string {
	const reference = "%" + RootVariable + "%"
	var out strings.Builder
	for {
		at := indexFold(s, reference)
		if at < 0 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:at])
		out.WriteString(root)
		s = s[at+len(reference):]
	}
}

// indexFold is strings.Index without regard to case; sub is ASCII.
func indexFold(s, sub string) int {
	for i := 0; i+len(sub) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sub)], sub) {
			return i
		}
	}
	return -1
}

// Inside returns the relative path, with backslashes, of a path of the container
// beneath its root: `app\bin` for `C:\app\bin`, `\app\bin`, `/app/bin` and `app\bin`, and "."
// for the root itself. ".." does not lead out.
//
// Other drives, network paths, device names (CON, NUL, …), alternate streams
// and names that Windows would change silently (`a. `) are
// errdefs.ErrInvalidArgument.
func Inside(path string) (string, error) {
	given := path
	path = strings.ReplaceAll(path, "/", `\`)
	switch {
	case strings.ContainsRune(path, 0):
		return "", fmt.Errorf("path %q has a NUL byte: %w", given, errdefs.ErrInvalidArgument)
	case strings.HasPrefix(path, `\\`), strings.HasPrefix(path, `\??\`):
		return "", fmt.Errorf("path %q is of the network or a device: a container has its drive C: only: %w", given, errdefs.ErrInvalidArgument)
	case len(path) >= 2 && path[1] == ':':
		if path[0] != 'C' && path[0] != 'c' {
			return "", fmt.Errorf("path %q: a container has its drive C: only: %w", given, errdefs.ErrInvalidArgument)
		}
		path = path[2:]
	}
	var kept []string
	for part := range strings.SplitSeq(path, `\`) {
		switch part {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			if err := checkName(part); err != nil {
				return "", fmt.Errorf("path %q: %w", given, err)
			}
			kept = append(kept, part)
		}
	}
	if len(kept) == 0 {
		return ".", nil
	}
	return strings.Join(kept, `\`), nil
}

// checkName refuses what Win32 does not take as the name of a file, or takes for
// another. See Microsoft's "Naming Files, Paths, and Namespaces".
func checkName(name string) error {
	switch {
	case strings.ContainsAny(name, `<>:"|?*`):
		return fmt.Errorf("%q has a character that no file name can have: %w", name, errdefs.ErrInvalidArgument)
	case strings.IndexFunc(name, func(r rune) bool { return r < ' ' }) >= 0:
		return fmt.Errorf("%q has a control character: %w", name, errdefs.ErrInvalidArgument)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return fmt.Errorf("%q ends in a dot or space, which Windows would drop: %w", name, errdefs.ErrInvalidArgument)
	case isDevice(name):
		return fmt.Errorf("%q is the name of a device: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// isDevice reports whether name is reserved for a device, with any extension.
func isDevice(name string) bool {
	base, _, _ := strings.Cut(name, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	digit, ok := strings.CutPrefix(base, "COM")
	if !ok {
		if digit, ok = strings.CutPrefix(base, "LPT"); !ok {
			return false
		}
	}
	return digit != "" && strings.Contains("0123456789¹²³", digit)
}
