package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"slipway/container/rootfs"
	"slipway/internal/winpath"

	"github.com/containerd/errdefs"
)

// setOpaque does nothing: the layer is a whole tree, and hides what is below it.
func setOpaque(string) error { return nil }

// resolve returns the path that a container path leads to beneath the root at
// merged, with all links resolved. It begins with a backslash.
func resolve(_ *rootfs.Root, merged, path string) (string, error) {
	inside, err := winpath.Inside(path)
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(merged)
	if err != nil {
		return "", err
	}
	_, err = root.Stat(filepath.FromSlash(inside))
	if err := errors.Join(err, root.Close()); err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(filepath.Join(merged, filepath.FromSlash(inside)))
	if err != nil {
		return "", err
	}
	top, err := filepath.EvalSymlinks(merged)
	if err != nil {
		return "", err
	}
	place, err := filepath.Rel(top, real)
	if err != nil || !filepath.IsLocal(place) {
		return "", fmt.Errorf("%s leads out of the container's root: %w", path, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(`\`, place), nil
}

// copyUpDir makes the directories that lead to target in a layer; path is target's
// within the layer. What is there already has to be a directory: a link that a
// program of the container made would lead anywhere on the host.
func copyUpDir(_ *rootfs.Root, path, target string) error {
	dir := strings.TrimSuffix(target, path)
	for name := range strings.SplitSeq(strings.Trim(path, `\`), `\`) {
		if name == "" {
			continue
		}
		dir = filepath.Join(dir, name)
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrExist) {
			var info fs.FileInfo
			if info, err = os.Lstat(dir); err == nil && !info.IsDir() {
				err = errdefs.ErrConflict.WithMessage(path + " is not a directory in the container's files: commit it again")
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
