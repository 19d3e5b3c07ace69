package keeper

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"slipway/container/logs/jsonlog"
)

// compressFile replaces a rotated log by its compressed form. The gzip header tells readers that
// follow the log which file it was.
func compressFile(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: no inode", path)
	}
	extra, err := json.Marshal(jsonlog.Rotated{LastTime: fi.ModTime(), Inode: st.Ino})
	if err != nil {
		return err
	}
	part := path + gzipSuffix + ".part"
	if err := writeGzip(part, in, extra); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, path+gzipSuffix); err != nil {
		return err
	}
	return os.Remove(path)
}

func writeGzip(path string, in io.Reader, extra []byte) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, logMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	zw := gzip.NewWriter(out)
	zw.Extra = extra
	if _, err := io.Copy(zw, in); err != nil {
		return err
	}
	return zw.Close()
}
