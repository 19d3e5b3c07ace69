package job

import (
	"strings"

	"slipway/internal/winpath"
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
	switch {
	case winpath.HasDrive(path) && len(path) == len(winpath.Drive):
		path += `\`
	case !winpath.HasDrive(path) && (path == "" || path[0] != '/' && path[0] != '\\'):
		path = `\` + path
	}
	inside, err := winpath.Inside(path)
	return strings.ReplaceAll(inside, "/", `\`), err
}
