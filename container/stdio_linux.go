package container

import (
	"os"

	"golang.org/x/sys/unix"
)

// openStdin opens the FIFO for writing. Opened for reading too it needs no
// reader yet, and non-blocking it lets close interrupt a write.
func openStdin(path string) (*stdin, error) {
	f, err := os.OpenFile(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &stdin{file: f}, nil
}
