package image

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
)

// readTree has a line for each file with everything that has to survive.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out, groups := map[string]string{}, map[uint64]string{}
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir) // of the root itself: ""
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%v %d:%d", info.Mode(), stat.Uid, stat.Gid)
		if !info.IsDir() {
			line += fmt.Sprintf(" %d %d", info.ModTime().UnixNano(), stat.Rdev)
		}
		names, err := listXattrs(path)
		if err != nil {
			return err
		}
		slices.Sort(names)
		for i, xattr := range names {
			value, err := getXattr(path, xattr)
			if err != nil {
				return err
			}
			names[i] = fmt.Sprintf("%s=%x", xattr, value)
		}
		line += " " + strings.Join(names, " ")
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %s", len(data), digest.FromBytes(data).Encoded()[:16])
			if stat.Nlink > 1 {
				if groups[stat.Ino] == "" {
					groups[stat.Ino] = name
				}
				line += " = " + groups[stat.Ino]
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		out[name] = line
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}
