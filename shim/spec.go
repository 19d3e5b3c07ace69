package shim

import (
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// InitPath is where a container that asked for an init process finds it.
const InitPath = "/sbin/docker-init"

// DefaultPath is the PATH of a container whose image sets none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// StopCommandLabel is the label of an image or container for Windows that has the
// command line which asks its program to stop, such as "pg_ctl stop -D C:\data". It runs in
// the container.
const StopCommandLabel = "io.slipway.stop-command"

// User is who runs a container's process, resolved beneath its root. HOME is not
// here: unless the environment has it, runc looks it up in the container.
type User struct {
	UID, GID uint32
	// AdditionalGIDs are the supplementary groups of the image's group file and
	// those of HostConfig.GroupAdd. The primary group is added by this package.
	AdditionalGIDs []uint32
}

// Namespaces are the namespaces of other containers to join, as paths. They are
// needed where the request's mode is "container:<id>".
type Namespaces struct {
	IPC, PID string
	// Network is the path of the prepared network namespace. Empty: a new one
	// without interfaces, unless the mode is host.
	Network string
}

// SpecRequest is everything [Spec] needs. Config and HostConfig have passed
// [Validate]; the image's defaults are already merged into Config.
type SpecRequest struct {
	ID         string
	Config     *mobycontainer.Config
	HostConfig *mobycontainer.HostConfig
	// Args is the complete argument vector.
	Args []string
	User User
	// Rootfs is the absolute path of the root file system, or a path relative
	// to the bundle ("rootfs" when containerd mounts the snapshot there).
	Rootfs     string
	Namespaces Namespaces
	// Mounts are the resolved volumes, binds and tmpfs, and the engine's own
	// files (hosts, resolv.conf, hostname), parents first. HostConfig.Tmpfs
	// must not be among them. Options are those of the OCI specification;
	// a tmpfs gets Docker's defaults in addition.
	Mounts []specs.Mount
	// ShmPath is the host directory to be seen as /dev/shm where the IPC mode
	// is shareable or "container:<id>" (see [MountShm]).
	ShmPath string
	// CgroupParent is used where HostConfig names none. Empty: "/slipway".
	CgroupParent string
	// InitBinary is the absolute path of the init program on the host, needed
	// where HostConfig.Init is true.
	InitBinary string
	// Ulimits are the daemon's defaults; those of HostConfig win by name.
	Ulimits []*mobycontainer.Ulimit
	// Identity is whose rights a container on Windows has unless its annotations
	// say so: a job.Identity. Empty: an account of its own.
	Identity string
}

// ExecRequest is a further process in a container made from [Spec].
type ExecRequest struct {
	Args []string
	// Env is added to the container's environment and wins over it.
	Env []string
	// Cwd replaces the container's working directory unless it is empty.
	Cwd string
	// User replaces the container's user unless it is nil.
	User *User
	// Privileged gives all capabilities.
	Privileged bool
	TTY        bool
	// ConsoleSize is height and width, or nil.
	ConsoleSize *[2]uint
}
