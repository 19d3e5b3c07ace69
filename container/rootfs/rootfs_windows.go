package rootfs

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

var errWindows = fmt.Errorf("container files on Windows: %w", errdefs.ErrNotImplemented)

// Root is the root of a container's files. On Windows there is no way yet to make one.
type Root struct{}

// Open is not implemented on Windows.
func Open(string) (*Root, error) { return nil, errWindows }

// OpenProcess is not implemented on Windows.
func OpenProcess(int) (*Root, error) { return nil, errWindows }

// Close is not implemented on Windows.
func (*Root) Close() error { return errWindows }

// OpenPath is not implemented on Windows.
func (*Root) OpenPath(string) (*os.File, error) { return nil, errWindows }

// Stat is not implemented on Windows.
func (*Root) Stat(string) (mobycontainer.PathStat, error) {
	return mobycontainer.PathStat{}, errWindows
}

// Writable is not implemented on Windows.
func (*Root) Writable(string) error { return errWindows }

// Archive is not implemented on Windows.
func (*Root) Archive(context.Context, string, io.Writer) error { return errWindows }

// Extract is not implemented on Windows.
func (*Root) Extract(context.Context, string, io.Reader, ExtractOptions) error { return errWindows }

// ReadFile is not implemented on Windows.
func (*Root) ReadFile(string, int64) ([]byte, error) { return nil, errWindows }

// WriteFile is not implemented on Windows.
func (*Root) WriteFile(string, []byte, fs.FileMode) error { return errWindows }

// AppendFile is not implemented on Windows.
func (*Root) AppendFile(string, []byte, fs.FileMode) error { return errWindows }

// Remove is not implemented on Windows.
func (*Root) Remove(string) error { return errWindows }

// Changes is not implemented on Windows.
func Changes(context.Context, string, []string, []string) ([]mobycontainer.FilesystemChange, error) {
	return nil, errWindows
}
