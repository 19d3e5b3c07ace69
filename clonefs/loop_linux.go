package clonefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	loopMajor = 7
	// loopBlock is the logical block size of the loop device and the sector
	// size of the pool's file system: the host's block size on nearly every
	// file system, so that direct I/O is always aligned and never reads before
	// it writes, also on disks with 4 KiB sectors.
	loopBlock = 4096
)

// loopDevice is an open loop device. As long as it is open or mounted it keeps
// its backing file; after that the kernel takes it down (autoclear).
type loopDevice struct {
	f    *os.File
	path string
}

func (d *loopDevice) Close() error { return d.f.Close() }

// attachLoop gives the file a loop device with direct I/O, the one that it has
// already if there is one: two devices on one file would be two caches of it.
func attachLoop(file *os.File) (*loopDevice, error) {
	dev, err := findLoop(file)
	if err != nil || dev != nil {
		return dev, err
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: loop devices: %w", errUnavailable, err)
	}
	defer ctl.Close()
	// Others take free numbers too: the one we were told may be gone.
	for range 64 {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("%w: free loop device: %w", errUnavailable, err)
		}
		dev, err := openLoop(n)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnavailable, err)
		}
		err = configureLoop(dev, file)
		if err == nil {
			return dev, nil
		}
		_ = dev.Close()
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		if isRefused(err) { // before Linux 5.8, or not allowed in this container
			err = fmt.Errorf("%w: %w", errUnavailable, err)
		}
		return nil, fmt.Errorf("attach %s to %s: %w", file.Name(), dev.path, err)
	}
	return nil, fmt.Errorf("%w: all loop devices are busy", errUnavailable)
}

// openLoop opens /dev/loop<n>. A container's /dev is static and may lack it.
func openLoop(n int) (*loopDevice, error) {
	path := "/dev/loop" + strconv.Itoa(n)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) { //nolint:gosec // loop numbers fit
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	return &loopDevice{f: f, path: path}, nil
}

func configureLoop(dev *loopDevice, file *os.File) error {
	cfg := unix.LoopConfig{Fd: uint32(file.Fd()), Size: loopBlock} //nolint:gosec // descriptors fit
	cfg.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], file.Name())
	err := unix.IoctlLoopConfigure(int(dev.f.Fd()), &cfg)
	if errors.Is(err, unix.EINVAL) {
		// A file system without direct I/O (tmpfs before 6.6), or an odd block size.
		cfg.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(dev.f.Fd()), &cfg)
	}
	return err
}

// directIO says whether the device passes reads and writes around the host's
// page cache.
func (d *loopDevice) directIO() bool {
	info, err := unix.IoctlLoopGetStatus64(int(d.f.Fd()))
	return err == nil && info.Flags&unix.LO_FLAGS_DIRECT_IO != 0
}

// refreshSize makes the device as large as its file has become.
func (d *loopDevice) refreshSize() error {
	if err := unix.IoctlSetInt(int(d.f.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("enlarge %s: %w", d.path, err)
	}
	return nil
}

// findLoop returns the loop device that has the file, open, or nil.
func findLoop(file *os.File) (*loopDevice, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, err
	}
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	for _, dir := range bound {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "loop"))
		if err != nil {
			continue
		}
		dev, err := openLoop(n)
		if err != nil {
			continue // someone else's, just gone
		}
		if dev.isBackedBy(&st) {
			return dev, nil
		}
		_ = dev.Close()
	}
	return nil, nil
}

func (d *loopDevice) isBackedBy(st *unix.Stat_t) bool {
	info, err := unix.IoctlLoopGetStatus64(int(d.f.Fd()))
	return err == nil && info.Inode == st.Ino && info.Device == st.Dev && info.Offset == 0
}
