package image

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/containerd/platforms"

	"slipway/internal/winpath"
)

// hostPlatform tells which images run here.
func hostPlatform() platforms.MatchComparer {
	return windowsHost{architecture: runtime.GOARCH, version: platforms.DefaultSpec().OSVersion}
}

// defaultShell runs what an instruction has as plain text.
func defaultShell() []string { return []string{"cmd", "/S", "/C"} }

// workingDir returns the directory that WORKDIR means, with that of the image before.
func workingDir(before, dir string) (string, error) {
	if dir == "" {
		return "", errors.New("cannot normalize nothing")
	}
	if !winpath.HasDrive(dir) && dir[0] != '/' && dir[0] != '\\' {
		if before == "" {
			before = winpath.Drive + `\`
		}
		dir = before + `\` + dir
	}
	return containerPath(dir)
}

// volumePath returns the path that VOLUME means.
func volumePath(path string) (string, error) { return containerPath(path) }

func containerPath(path string) (string, error) {
	if winpath.HasDrive(path) && (len(path) == 2 || path[2] != '/' && path[2] != '\\') {
		return "", fmt.Errorf(`%s is not absolute: in an instruction a backslash has to be written twice, or use slashes (C:/data)`, path)
	}
	inside, err := winpath.Inside(path)
	if err != nil {
		return "", err
	}
	return winpath.Absolute(inside), nil
}
