package keeper

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"

	"slipway/container/logs/jsonlog"
	"slipway/internal/sharedfile"
)

// compressFile replaces a rotated log by its compressed form. The gzip header tells readers that
// follow the log which file it was.
func compressFile(path string) (err error) {
	in, err := sharedfile.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	inode, err := sharedfile.ID(in)
	if err != nil {
		return err
	}
	extra, err := json.Marshal(jsonlog.Rotated{LastTime: fi.ModTime(), Inode: inode})
	if err != nil {
		return err
	}
	part := path + gzipSuffix + ".part"
	if err := writeGzip(part, in, extra); err != nil {
		return errors.Join(err, sharedfile.Remove(part))
	}
	if err := sharedfile.Rename(part, path+gzipSuffix); err != nil {
		return err
	}
	return sharedfile.Remove(path)
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
