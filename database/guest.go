package database

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Guest runs programs inside a running container. The container package implements it by exec.
type Guest interface {
	// Exec runs one command to its end and returns its exit code and output; a non-zero exit code is not an
	// error. The command and everything it started are killed, and the error wraps [ErrTimeout] or
	// [ErrOutput], when it runs longer than Timeout or writes more than OutputLimit bytes.
	Exec(ctx context.Context, c Command) (Result, error)
}

// Dialer is implemented by guests of which an adapter can reach the ports: engines whose clients are no part of the
// container are spoken to in their own protocol.
type Dialer interface {
	// Dial connects to a TCP port on which a process of this container listens, and to no other: the implementation makes sure of it, also where
	// containers share the host's ports. Otherwise the error wraps errdefs.ErrUnavailable. What comes out of the connection is the
	// guest's, and nothing that is sent may be worth more than access to this container's database.
	Dial(ctx context.Context, port uint16) (net.Conn, error)
}

// Command is one program run in a container.
type Command struct {
	// Argv is the program, found by the container's PATH, and its arguments. No shell is involved.
	Argv []string
	// Stdin is what the program reads; nil is an empty input.
	Stdin io.Reader
	// Env is added to the container's environment and wins over it.
	Env []string
	// User as in docker exec --user; empty is the container's own.
	User string
	// Timeout is the longest the command may take; always set by adapters.
	Timeout time.Duration
	// OutputLimit is the most bytes that each of stdout and stderr may have; always set by adapters.
	OutputLimit int64
}

// Result is what a command left.
type Result struct {
	ExitCode       int
	Stdout, Stderr []byte
}

var (
	// ErrTimeout says that a command was killed because it took too long.
	ErrTimeout = errors.New("the command took too long and was stopped")
	// ErrOutput says that a command was killed because it wrote too much.
	ErrOutput = errors.New("the command wrote too much and was stopped")
)

// Files reads and changes small files of a container that does not run. Paths are absolute paths in the container,
// volumes included; they are resolved beneath the container's root, whatever symbolic links say. The
// container package implements it.
type Files interface {
	// Read returns a regular file's content; fs.ErrNotExist if there is none, [ErrOutput] if it has more
	// than limit bytes.
	Read(path string, limit int64) ([]byte, error)
	// List returns the names in a directory, sorted; fs.ErrNotExist if there is none, [ErrOutput] if it
	// has more than limit entries.
	List(path string, limit int) ([]string, error)
	// Size returns a regular file's size in bytes, or fs.ErrNotExist.
	Size(path string) (int64, error)
	// Replace writes a regular file as a whole: afterwards, and after a crash, it has the old content or
	// the new. Owner and mode stay; a new file gets the owner of its directory and mode 0600.
	Replace(path string, data []byte) error
	// Rename moves a file within its directory, replacing what has the new name.
	Rename(path, newName string) error
	// Remove removes a file; that it does not exist is no error.
	Remove(path string) error
}

// Capture keeps what a command writes, up to a limit, for implementations of [Guest]. Over is called once, when
// the limit is passed, and should end the command; what is written after that is dropped, so that the
// writing side never blocks. It is safe for concurrent use.
type Capture struct {
	Limit int64
	Over  func()

	mu   sync.Mutex
	data []byte
	over bool
}

// Write never fails and never keeps more than the limit.
func (c *Capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := max(c.Limit-int64(len(c.data)), 0)
	c.data = append(c.data, p[:min(int64(len(p)), room)]...)
	if int64(len(p)) > room && !c.over {
		c.over = true
		if c.Over != nil {
			c.Over()
		}
	}
	return len(p), nil
}

// Bytes returns what was kept. The caller must not change it.
func (c *Capture) Bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.data
}

// Exceeded tells whether more than the limit was written.
func (c *Capture) Exceeded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}
