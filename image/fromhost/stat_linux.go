package fromhost

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// statFile describes a file on this machine, without following a link.
func statFile(name string) (File, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return File{}, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return File{
		Mode: st.Mode & (typeMask | 0o7777), Size: st.Size, uid: int(st.Uid), gid: int(st.Gid),
		modified: time.Unix(st.Mtim.Sec, 0).UTC(),
	}, nil
}
