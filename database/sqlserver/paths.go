package sqlserver

import (
	"errors"
	"strings"

	"slipway/internal/winpath"
)

// Paths here are those of Windows, whatever system this runs on.

// ServerPath is the path by which a server finds what a container has at a path (C:\data\x.mdf, /data/x.mdf, \data\x.mdf): beneath the
// container's root, of which a process of a plain job object sees the true place.
func ServerPath(root, path string) (string, error) {
	inside, err := winpath.Inside(path)
	if err != nil {
		return "", err
	}
	return join(root, strings.ReplaceAll(inside, "/", `\`)), nil
}

// dirOf is the directory of a path, without a separator at its end.
func dirOf(path string) string {
	i := strings.LastIndexAny(path, `\/`)
	if i < 0 {
		return ""
	}
	return strings.TrimRight(path[:i], `\/`)
}

// baseOf is the last name of a path.
func baseOf(path string) string { return path[strings.LastIndexAny(path, `\/`)+1:] }

func join(dir, name string) string { return strings.TrimRight(dir, `\/`) + `\` + name }

// same tells whether two paths name the same file.
func same(a, b string) bool {
	slashes := strings.NewReplacer("/", `\`)
	return winpath.Fold(slashes.Replace(a)) == winpath.Fold(slashes.Replace(b))
}

// beneath returns what of a path follows a directory in which it lies.
func beneath(path, dir string) (rest string, ok bool) {
	dir = strings.TrimRight(dir, `\/`)
	if len(path) <= len(dir) || !same(path[:len(dir)], dir) || !strings.ContainsAny(path[len(dir):len(dir)+1], `\/`) {
		return "", false
	}
	return path[len(dir)+1:], true
}

// maxPath is the longest os_file_name ("sys.master_files (Transact-SQL)": physical_name is nvarchar(260)).
const maxPath = 260

// checkPath tells why a text cannot be the path of a database's file.
func checkPath(path string) error {
	switch {
	case !winpath.IsAbs(path):
		return errors.New("it is not an absolute path of Windows")
	case len(path) > maxPath:
		return errors.New("it is longer than 260 characters")
	case strings.ContainsRune(path, 0):
		return errors.New("it has a NUL character")
	}
	return nil
}
