package api

import (
	"context"
	"io"
	"time"

	"slipway/container"
	"slipway/internal/keylock"

	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	mobyvolume "github.com/moby/moby/api/types/volume"
)

// The engine's parts as the API needs them. Methods are called concurrently.
// The context of a call ends when the client leaves or the server shuts down:
// an operation that must not stop half way detaches itself from it. Errors carry
// a class of github.com/containerd/errdefs.
//
// What Docker has and the engine may not have yet is an optional interface
// beside its group: a backend that does not implement it makes the endpoint
// answer 501.

// Containers is everything the API needs of the containers.
type Containers interface {
	ContainerLifecycle
	ContainerControl
	ContainerQuery
	ContainerStreams
	ContainerExec
	ContainerArchive
}

// ContainerLifecycle makes containers and takes them through their states. A
// ref is an id, an unambiguous beginning of one, or a name.
type ContainerLifecycle interface {
	Create(ctx context.Context, req container.CreateRequest) (mobycontainer.CreateResponse, error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, opts container.StopOptions) error
	Restart(ctx context.Context, ref string, opts container.StopOptions) error
	Rename(ctx context.Context, ref, name string) error
	Remove(ctx context.Context, ref string, opts container.RemoveOptions) error
}

// ContainerControl acts on running containers and waits for their end. The
// channel of Wait delivers one result; the call itself fails at once if there is
// no such container.
type ContainerControl interface {
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Resize(ctx context.Context, ref string, height, width uint16) error
	Wait(ctx context.Context, ref string, condition mobycontainer.WaitCondition) (<-chan mobycontainer.WaitResponse, error)
}

// ContainerQuery reads. Changes is `docker diff`; Commit makes an image and
// returns its id.
type ContainerQuery interface {
	List(ctx context.Context, opts container.ListOptions) ([]mobycontainer.Summary, error)
	Inspect(ctx context.Context, ref string, size bool) (mobycontainer.InspectResponse, error)
	Changes(ctx context.Context, ref string) ([]mobycontainer.FilesystemChange, error)
	Commit(ctx context.Context, ref string, opts container.CommitOptions) (id string, err error)
}

// ContainerStreams gives access to a container's output and input. Attach only
// validates and subscribes; the streams run in [Attachment].
type ContainerStreams interface {
	Logs(ctx context.Context, ref string, opts container.LogsOptions) (*container.LogStream, error)
	Attach(ctx context.Context, ref string, opts container.AttachOptions) (Attachment, error)
}

// Attachment is a prepared attach session. Copy returns when the container has
// ended, the client has detached, or ctx ends; a read of the client's input that
// is still blocked then returns soon after, as the connection is closed. Close is
// called instead of Copy if the session cannot begin.
type Attachment interface {
	TTY() bool
	Copy(ctx context.Context, streams container.Streams) error
	Close() error
}

// ContainerExec runs further processes in a container. ExecStart only claims the
// exec; its process starts with the session's Run.
type ContainerExec interface {
	ExecCreate(ctx context.Context, ref string, req mobycontainer.ExecCreateRequest) (id string, err error)
	ExecStart(ctx context.Context, id string, opts container.ExecStartOptions) (ExecSession, error)
	ExecInspect(ctx context.Context, id string) (mobycontainer.ExecInspectResponse, error)
	ExecResize(ctx context.Context, id string, height, width uint16) error
}

// ExecSession is a prepared exec. Run starts the process and, unless it was
// started detached, returns when it has ended, the client has detached, or ctx
// ends.
type ExecSession interface {
	Run(ctx context.Context, streams container.Streams) error
}

// ContainerArchive copies files as tar streams out of and into containers.
type ContainerArchive interface {
	ArchiveStat(ctx context.Context, ref, path string) (mobycontainer.PathStat, error)
	ArchiveGet(ctx context.Context, ref, path string) (io.ReadCloser, mobycontainer.PathStat, error)
	ArchivePut(ctx context.Context, ref, path string, tar io.Reader, noOverwriteDirNonDir, copyUIDGID bool) error
}

// ContainerTop lists the processes of a container. Optional for [Containers].
type ContainerTop interface {
	Top(ctx context.Context, ref, psArgs string) (mobycontainer.TopResponse, error)
}

// ContainerStats samples a container's use of resources. It calls emit once, or
// with stream about once a second until emit fails, the container is removed or ctx
// ends. Optional for [Containers].
type ContainerStats interface {
	Stats(ctx context.Context, ref string, stream, oneShot bool, emit func(mobycontainer.StatsResponse) error) error
}

// ContainerUpdater changes the limits of a container. Optional for [Containers].
type ContainerUpdater interface {
	Update(ctx context.Context, ref string, cfg mobycontainer.UpdateConfig) (mobycontainer.UpdateResponse, error)
}

// ContainerExporter writes a container's file system as a tar stream. It writes
// nothing before it knows that the container exists. Optional for [Containers].
type ContainerExporter interface {
	Export(ctx context.Context, ref string, w io.Writer) error
}

// ContainerPruner removes stopped containers. Optional for [Containers].
type ContainerPruner interface {
	Prune(ctx context.Context, filters Filters) (mobycontainer.PruneReport, error)
}

// Volumes is everything the API needs of the volumes.
type Volumes interface {
	Create(ctx context.Context, req mobyvolume.CreateRequest) (mobyvolume.Volume, error)
	Get(ctx context.Context, name string) (mobyvolume.Volume, error)
	List(ctx context.Context, filters Filters) (mobyvolume.ListResponse, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, filters Filters) (mobyvolume.PruneReport, error)
}

// Networks is everything the API needs of the networks. Connect and Disconnect
// act on a container's network and are refused for what it cannot do.
type Networks interface {
	Create(ctx context.Context, req mobynetwork.CreateRequest) (mobynetwork.CreateResponse, error)
	List(ctx context.Context, filters Filters) ([]mobynetwork.Summary, error)
	Inspect(ctx context.Context, ref string) (mobynetwork.Inspect, error)
	Remove(ctx context.Context, ref string) error
	Connect(ctx context.Context, ref string, req mobynetwork.ConnectRequest) error
	Disconnect(ctx context.Context, ref string, req mobynetwork.DisconnectRequest) error
}

// NetworkPruner removes unused networks. Optional for [Networks].
type NetworkPruner interface {
	Prune(ctx context.Context, filters Filters) (mobynetwork.PruneReport, error)
}

// Events is the bus of [slipway/events].
type Events interface {
	// Subscribe returns kept messages from since up to until that match, and a
	// channel of those that follow, closed by cancel or if the reader lags too
	// far behind.
	Subscribe(since, until time.Time, match func(mobyevents.Message) bool) (past []mobyevents.Message, ch <-chan mobyevents.Message, cancel func())
}

// System answers for the engine as a whole.
type System interface {
	Info(ctx context.Context) (system.Info, error)
	Version(ctx context.Context) (system.VersionResponse, error)
}

// DiskUsageOptions says which kinds of objects to measure and whether to list
// each of them.
type DiskUsageOptions struct {
	Containers, Images, Volumes, BuildCache bool
	Verbose                                 bool
}

// DiskUsage measures disk space. Optional for [System].
type DiskUsage interface {
	DiskUsage(ctx context.Context, opts DiskUsageOptions) (system.DiskUsage, error)
}

// Authenticator checks credentials with a registry; the token may be empty.
// Optional for [System].
type Authenticator interface {
	Authenticate(ctx context.Context, auth registry.AuthConfig) (token string, err error)
}

// PoolStatus describes the pool, in bytes.
type PoolStatus struct {
	Method     string `json:"method"` // reflink, pool or copy
	FileSystem string `json:"file_system"`
	PoolFile   string `json:"pool_file,omitempty"`
	Size       int64  `json:"size"`
	Used       int64  `json:"used"`
	Free       int64  `json:"free"`
	HostFree   int64  `json:"host_free"`
	Reserve    int64  `json:"reserve"`          // kept for what runs: new clones are refused below it
	Reason     string `json:"reason,omitempty"` // why the method is copy
	Device     string `json:"device,omitempty"`
}

// Pool is the copy-on-write pool, for Slipway's own client.
type Pool interface {
	Status(ctx context.Context) (PoolStatus, error)
	Grow(ctx context.Context, size int64) error
	Trim(ctx context.Context) (freed int64, err error)
}

// Problem is one difference between the engine's records and reality.
type Problem struct {
	Kind   string `json:"kind"` // what is lost or left over: snapshot, netns, mount, ...
	Object string `json:"object"`
	Detail string `json:"detail"`
}

// Checker looks for what is lost or left behind.
type Checker interface {
	Check(ctx context.Context) ([]Problem, error)
}

// Locks shows the locks that are held.
type Locks interface {
	Snapshot() []keylock.Info
}
