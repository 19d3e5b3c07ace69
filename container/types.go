package container

import (
	"io"
	"iter"
	"time"

	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CreateRequest is what `docker create` asks for. An empty Name asks for a
// generated one.
type CreateRequest struct {
	Name             string
	Config           *mobycontainer.Config
	HostConfig       *mobycontainer.HostConfig
	NetworkingConfig *mobynetwork.NetworkingConfig
	Platform         *ocispec.Platform
}

// StopOptions overrides the container's own stop signal and time-out. Timeout is
// in seconds; nil means the container's, a negative one waits without end.
type StopOptions struct {
	Signal  string
	Timeout *int
}

// RemoveOptions says how `docker rm` treats a running container, its anonymous
// volumes and its links.
type RemoveOptions struct {
	Force   bool
	Volumes bool
	Link    bool
}

// ListOptions selects containers for `docker ps`. Filters are those of the API,
// by name and value.
type ListOptions struct {
	All     bool
	Limit   int
	Size    bool
	Filters map[string]map[string]bool
}

// LogsOptions selects log lines. Tail is "all", "" (all) or a number of lines;
// zero times do not limit.
type LogsOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Timestamps     bool
	Details        bool
	Since, Until   time.Time
	Tail           string
}

// LogMessage is one line of a container's output, or a piece of one that was
// longer than the log driver's limit. Line ends in a newline unless it is such
// a piece or the output ended without one.
type LogMessage struct {
	Stream string // stdout or stderr
	Time   time.Time
	Line   []byte
	Attrs  map[string]string
}

// LogStream is the answer to [Manager.Logs]. Messages ends when the selection
// ends, or, with Follow, when the container has ended and all is read, or when
// the context of the call ends. An error is the sequence's last element.
type LogStream struct {
	TTY      bool
	Messages iter.Seq2[LogMessage, error]
}

// Streams are a client's ends of an attach or exec session. Stdin is nil if the
// client sends nothing. With a TTY all output goes to Stdout.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// AttachOptions selects the streams of an attach session. Logs replays the log
// first, Stream follows the live output.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Logs, Stream          bool
	DetachKeys            string
}

// ExecStartOptions overrides what was asked for at ExecCreate. ConsoleSize is
// height and width in characters.
type ExecStartOptions struct {
	Detach, TTY bool
	ConsoleSize *[2]uint
}

// CommitOptions describes the image that [Manager.Commit] makes. Changes are
// Dockerfile instructions. Config, if set, replaces the container's own.
type CommitOptions struct {
	Repo, Tag       string
	Comment, Author string
	Pause           bool
	Changes         []string
	Config          *mobycontainer.Config
}
