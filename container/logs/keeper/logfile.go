package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"slipway/container/logs/jsonlog"
	"slipway/container/logs/wire"
	"slipway/internal/sharedfile"
)

// droppedAttr marks the record that says how many lines a full disk has cost.
const droppedAttr = "slipway.dropped"

const (
	nextSuffix = ".next" // the file that a rotation under way will make current
	gzipSuffix = ".gz"
	logMode    = 0o640
)

// logFile is a container's json-file log with its rotated files. Its methods are called under the
// container's lock.
type logFile struct {
	config wire.LogConfig
	attrs  []byte // JSON object or empty
	logger *slog.Logger

	file  *os.File
	inode uint64
	size  int64

	lost     int64 // lines since the last that the file took
	dropped  int64 // lines in all
	stuck    bool  // the last rotation failed
	compress sync.WaitGroup
}

func openLogFile(config wire.LogConfig, logger *slog.Logger) (*logFile, error) {
	l := &logFile{config: config, logger: logger}
	if len(config.Attrs) > 0 {
		attrs, err := json.Marshal(config.Attrs)
		if err != nil {
			return nil, fmt.Errorf("log attributes: %w", err)
		}
		l.attrs = attrs
	}
	if err := l.settleRotation(); err != nil {
		return nil, err
	}
	if err := l.open(config.Path, os.O_CREATE); err != nil {
		return nil, err
	}
	if err := l.cutTorn(); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	l.compressLast() // which a kill may have prevented
	return l, nil
}

// settleRotation completes a rotation that was cut short.
func (l *logFile) settleRotation() error {
	next := l.config.Path + nextSuffix
	if _, err := os.Lstat(l.config.Path); errors.Is(err, fs.ErrNotExist) {
		if err := sharedfile.Rename(next, l.config.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := sharedfile.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (l *logFile) open(path string, flags int) error {
	f, err := sharedfile.Open(path, os.O_RDWR|os.O_APPEND|flags, logMode)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if !fi.Mode().IsRegular() {
		return errors.Join(fmt.Errorf("%s is not a regular file", path), f.Close())
	}
	inode, err := sharedfile.ID(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size, l.inode = f, fi.Size(), inode
	return nil
}

// cutTorn removes an incomplete record from the end of the file, which a kill or a power cut has left.
func (l *logFile) cutTorn() error {
	const longest = 256 << 10 // no record is longer
	tail := make([]byte, min(l.size, longest))
	if _, err := l.file.ReadAt(tail, l.size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(tail) == 0 || tail[len(tail)-1] == '\n' {
		return nil
	}
	keep := bytes.LastIndexByte(tail, '\n') + 1
	if keep == 0 && l.size > longest {
		// Not our doing: leave it, but start on a line of our own.
		n, err := l.file.Write([]byte{'\n'})
		l.size += int64(n)
		return err
	}
	l.size -= int64(len(tail) - keep)
	return l.truncate(l.size)
}

func (l *logFile) truncate(size int64) error {
	return sharedfile.Truncate(l.file, l.config.Path, size)
}

// full reports whether the file, with more bytes waiting to be written, is due for rotation.
func (l *logFile) full(waiting int) bool {
	return l.config.MaxSize > 0 && l.size+int64(waiting) >= l.config.MaxSize
}

// write appends whole records. It never fails: what the file does not take (the disk is full) is
// counted, and a record that says so precedes the next that it takes.
func (l *logFile) write(records []byte) {
	if len(records) == 0 {
		return
	}
	out, marker := records, 0
	if l.lost > 0 {
		note := l.lostRecord()
		marker = len(note)
		out = append(note, records...)
	}
	kept, err := l.append(out)
	if kept >= marker && marker > 0 {
		l.logger.Info("log file takes lines again", slog.Int64("lines_dropped", l.lost))
		l.lost = 0
	}
	if err == nil {
		return
	}
	if l.lost == 0 {
		l.logger.Error("log file takes no more lines, dropping them", slog.String("path", l.config.Path), slog.Any("error", err))
	}
	n := int64(bytes.Count(out[max(kept, marker):], []byte{'\n'}))
	l.lost += n
	l.dropped += n
}

func (l *logFile) lostRecord() []byte {
	text := "slipway: " + strconv.FormatInt(l.lost, 10) + " lines dropped: the log could not be written\n"
	attrs := `{"` + droppedAttr + `":"` + strconv.FormatInt(l.lost, 10) + `"}`
	return jsonlog.Append(nil, []byte(text), "stderr", []byte(attrs), time.Now())
}

// append writes b and returns how much of it, in whole records, the file has taken.
func (l *logFile) append(b []byte) (int, error) {
	n, err := l.file.Write(b)
	if err == nil {
		l.size += int64(n)
		return n, nil
	}
	keep := bytes.LastIndexByte(b[:n], '\n') + 1
	if n > keep {
		// The end is asked for, not computed: an administrator may have truncated the file.
		if end, seekErr := l.file.Seek(0, io.SeekEnd); seekErr == nil {
			err = errors.Join(err, l.truncate(max(end-int64(n-keep), 0)))
		}
	}
	l.size += int64(keep)
	return keep, err
}

// rotate makes an empty file current. If that fails, the current one grows on.
func (l *logFile) rotate() {
	l.compress.Wait()
	if err := l.tryRotate(); err != nil {
		if !l.stuck {
			l.logger.Error("cannot rotate the log, it grows beyond its limit", slog.String("path", l.config.Path), slog.Any("error", err))
		}
		l.stuck = true
		return
	}
	l.stuck = false
	l.compressLast()
}

// compressLast compresses the latest rotated file, if it is there and is to be, in the background. The next
// rotation waits for it.
func (l *logFile) compressLast() {
	if !l.config.Compress || l.config.MaxFile < 2 {
		return
	}
	path := l.config.Path + ".1"
	l.compress.Go(func() {
		if err := compressFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.logger.Error("cannot compress a rotated log", slog.String("path", path), slog.Any("error", err))
		}
	})
}

func (l *logFile) tryRotate() error {
	path := l.config.Path
	oldFile, oldInode, oldSize := l.file, l.inode, l.size
	if err := l.open(path+nextSuffix, os.O_CREATE|os.O_TRUNC); err != nil {
		return err
	}
	err := shift(path, max(l.config.MaxFile, 1))
	if err == nil {
		err = sharedfile.Rename(path+nextSuffix, path)
	}
	if err != nil {
		err = errors.Join(err, l.file.Close())
		l.file, l.inode, l.size = oldFile, oldInode, oldSize
		return err
	}
	return oldFile.Close()
}

// shift renames path to path.1, path.1 to path.2 and so on, keeping at most files of them with the
// file that will be path. It ends at the first number that is free, which closes the gap that a kill in
// the middle of a shift leaves.
func shift(path string, files int) error {
	if files == 1 {
		return nil // the rename of the next file replaces the current one
	}
	last := 1
	for last < files-1 && rotatedExists(path, last) {
		last++
	}
	for _, suffix := range []string{"", gzipSuffix} {
		if err := sharedfile.Remove(rotatedName(path, last) + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for i := last; i > 1; i-- {
		for _, suffix := range []string{"", gzipSuffix} {
			err := sharedfile.Rename(rotatedName(path, i-1)+suffix, rotatedName(path, i)+suffix)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	err := sharedfile.Rename(path, rotatedName(path, 1))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an administrator has removed it
	}
	return err
}

func rotatedName(path string, i int) string { return path + "." + strconv.Itoa(i) }

func rotatedExists(path string, i int) bool {
	for _, suffix := range []string{"", gzipSuffix} {
		if _, err := os.Lstat(rotatedName(path, i) + suffix); err == nil {
			return true
		}
	}
	return false
}

// close waits for compression; it may be called again.
func (l *logFile) close() error {
	l.compress.Wait()
	if err := l.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
