package image

import (
	"errors"
	"path"

	"github.com/containerd/platforms"
)

// hostPlatform tells which images run here.
func hostPlatform() platforms.MatchComparer { return platforms.Default() }

// defaultShell runs what an instruction has as plain text.
func defaultShell() []string { return []string{"/bin/sh", "-c"} }

// workingDir returns the directory that WORKDIR means, with that of the image before.
func workingDir(before, dir string) (string, error) {
	if dir == "" {
		return "", errors.New("cannot normalize nothing")
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", before, dir)
	}
	return path.Clean(dir), nil
}

// volumePath returns the path that VOLUME means.
func volumePath(path string) (string, error) { return path, nil }
