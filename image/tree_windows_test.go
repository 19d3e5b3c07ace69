package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// readTree has a line for each file with everything that has to survive.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, dir)) // of the root itself: ""
		info, err := entry.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %d %s", info.ModTime().UnixNano(), len(data), digest.FromBytes(data).Encoded()[:16])
		}
		out[name] = line
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// awkward fills a layer with what is hard to keep.
func awkward(_ context.Context, dir string) error {
	long := strings.Repeat("a-long-name/", 30) + "file"
	if err := fillFiles(dir, map[string]string{
		"empty": "", "big": strings.Repeat("0123456789", 100_000), "Ünï ©ode/日本": "u", long: "long", "only": "read", "data/new": "n", "with space": "s",
	}); err != nil {
		return err
	}
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(old, time.Time{}, time.Date(2012, 10, 26, 1, 2, 3, 456789000, time.UTC)); err != nil {
		return err
	}
	return os.Chmod(filepath.Join(dir, "only"), 0o444)
}
