package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"

	"slipway/internal/treecopy"
)

// There is no overlayfs here: the snapshotter keeps whole trees (layout.go).
var errNoOverlay = fmt.Errorf("overlayfs is Linux's: %w", errdefs.ErrNotImplemented)

func upperDir([]mount.Mount) (string, error)              { return "", errNoOverlay }
func lowerDirs([]mount.Mount) ([]string, error)           { return nil, errNoOverlay }
func diskUsage(context.Context, string) (int64, error)    { return 0, errNoOverlay }
func writeLayer(context.Context, io.Writer, string) error { return errNoOverlay }

// applyRoot does nothing: directories have no owner and mode here.
func applyRoot([]mount.Mount, *tar.Header) error { return nil }

// syncFS writes out the volume that holds dir, which only administrators may. It need
// not succeed: the files of layers were flushed one by one then, containerd flushes
// each file of the content store, and NTFS and ReFS journal the names.
func syncFS(dir string) error {
	if err := treecopy.SyncVolume(dir); errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
