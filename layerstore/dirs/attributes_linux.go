package dirs

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func isJunction(fs.FileInfo) bool { return false }

// sameAttributes compares what of a file's status is not in its mode.
func sameAttributes(a, b fs.FileInfo) bool {
	x, y := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
	return x.Uid == y.Uid && x.Gid == y.Gid
}

func setHeader(*tar.Header, fs.FileInfo) {}

// setFile gives an unpacked file what its header says.
func setFile(f *os.File, header *tar.Header) error {
	if os.Geteuid() == 0 {
		if err := f.Chown(header.Uid, header.Gid); err != nil {
			return err
		}
	}
	return f.Chmod(header.FileInfo().Mode())
}

// setDir gives an unpacked directory what its header says.
func setDir(root *os.Root, name string, header *tar.Header) error {
	var err error
	if os.Geteuid() == 0 {
		err = root.Lchown(name, header.Uid, header.Gid)
	}
	return errors.Join(err, root.Chmod(name, header.FileInfo().Mode()))
}
