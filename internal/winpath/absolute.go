package winpath

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Drive is the drive letter of paths in containers.
const Drive = "C:"

// IsAbs reports whether path is absolute on Windows: it begins with a drive and a
// separator, or names a share (\\server\share).
func IsAbs(path string) bool {
	if len(path) >= 3 && isLetter(path[0]) && path[1] == ':' && isSlash(path[2]) {
		return true
	}
	return len(path) > 2 && isSlash(path[0]) && isSlash(path[1]) && !isSlash(path[2])
}

// HasDrive reports whether path begins with a drive letter and a colon.
func HasDrive(path string) bool {
	return len(path) >= 2 && isLetter(path[0]) && path[1] == ':'
}

// Inside returns the place of a container's path beneath the container's root, as
// names separated by slashes, "." for the root. The path is absolute with the drive
// C: or with none (C:\data, c:/data, \data, /data), or it is an error of the class
// InvalidArgument, as it is if a name in it is not one.
func Inside(path string) (string, error) {
	rest := path
	if HasDrive(path) {
		if !strings.EqualFold(path[:2], Drive) {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s: a container has the drive %s only", path, Drive))
		}
		rest = path[2:]
	}
	if rest == "" || !isSlash(rest[0]) || len(rest) > 1 && isSlash(rest[1]) {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(`the container's path %q must be absolute, such as C:\data`, path))
	}
	var names []string
	for name := range strings.FieldsFuncSeq(rest, func(r rune) bool { return r == '/' || r == '\\' }) {
		switch name {
		case ".":
		case "..":
			names = names[:max(len(names)-1, 0)]
		default:
			if err := CheckName(name); err != nil {
				return "", fmt.Errorf("%s: %w", path, err)
			}
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ".", nil
	}
	return strings.Join(names, "/"), nil
}

// Absolute returns the container's path of what lies at inside beneath its root:
// the reverse of [Inside].
func Absolute(inside string) string {
	if inside == "." {
		return Drive + `\`
	}
	return Drive + `\` + strings.ReplaceAll(inside, "/", `\`)
}

func isSlash(c byte) bool  { return c == '/' || c == '\\' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
