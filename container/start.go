package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"slipway/internal/cleanup"
	"slipway/internal/failpoint"
	"slipway/internal/span"
	"slipway/network"
	"slipway/shim"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"
)

// Networks connects containers. [network.Manager] implements it.
type Networks interface {
	NewSandbox(ctx context.Context, id string) (path string, err error)
	Connect(ctx context.Context, r network.EndpointRequest) (network.Endpoint, error)
	DeleteSandbox(ctx context.Context, id string) error
	Endpoints(id string) []network.Endpoint
	NetworkChanges
	NetworkFacts
}

// NetworkChanges change the connections of a running container.
type NetworkChanges interface {
	OpenPorts(ctx context.Context, id string) error
	// Disconnect does nothing if the container is not on the network.
	Disconnect(ctx context.Context, id, network string) error
	Rename(ctx context.Context, id, name string) error
}

// NetworkFacts are about networks, whatever is connected to them.
type NetworkFacts interface {
	// Resolve returns a network's name and driver.
	Resolve(ref string) (name, driver string, err error)
	// CheckEndpoint refuses settings that the network cannot give an endpoint.
	CheckEndpoint(ref string, settings *mobynetwork.EndpointSettings) error
	// Disconnected says that a container which does not run has left the network.
	Disconnected(id, network string)
	HostGateway() netip.Addr
}

// Runtime chooses the execution driver. [shim.Drivers] implements it.
type Runtime interface {
	Runtime(host *mobycontainer.HostConfig) (name string, options any, err error)
	Freezer(cgroup string) (*shim.Freezer, error)
	OOMKills(cgroup string) (int, error)
}

// Start starts the container's main process. It returns [errdefs.ErrNotModified]
// if it runs already. What a start that fails has made is cleared away, and the
// record says why.
func (m *Manager) Start(ctx context.Context, ref string) error {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	// A start that has begun goes on when the client goes away.
	ctx = context.WithoutCancel(ctx)
	unlock, err := m.transition(ctx, c, "start")
	if err != nil {
		return err
	}
	defer unlock()
	switch c.status() {
	case mobycontainer.StateRunning:
		return errdefs.ErrNotModified.WithMessage("Container already started")
	case mobycontainer.StatePaused:
		return errdefs.ErrConflict.WithMessage("cannot start a paused container, try unpause instead")
	case mobycontainer.StateRemoving, mobycontainer.StateDead:
		return errdefs.ErrConflict.WithMessage("container is marked for removal and cannot be started")
	default:
	}
	if c.restart.cancel != nil {
		c.restart.cancel(errRestartOff)
	}
	// The policy counts from here.
	c.restart = backoff{}
	if c.record.Load().RestartCount > 0 {
		if err := c.update(func(r *Record) { r.RestartCount = 0 }); err != nil {
			return err
		}
	}
	return m.start(ctx, c)
}

// start runs the container. Its lock is held.
func (m *Manager) start(ctx context.Context, c *container) error {
	failpoint.Hit("container.start.begin")
	begun := &starting{over: make(chan struct{})}
	c.starting.Store(begun)
	defer close(begun.over)
	before := c.status()
	err := m.launch(ctx, c)
	if err == nil {
		return nil
	}
	code := otherFailure
	if _, ok := errors.AsType[runtimeError](err); ok {
		code = startFailureCode(err)
	}
	if before == mobycontainer.StateRestarting {
		defer c.finish(code) // those who wait for its end have it now
	}
	recorded := c.update(func(r *Record) {
		r.State.Status, r.State.Pid, r.State.ExitCode, r.State.Error = mobycontainer.StateExited, 0, code, err.Error()
		if r.State.StartedAt.IsZero() {
			r.State.Status = mobycontainer.StateCreated
		}
	})
	m.removeIfAutomatic(ctx, c)
	if code != otherFailure || strings.Contains(err.Error(), "OCI runtime create failed") {
		// Docker's class, so that clients see a fault of theirs as one.
		err = errdefs.ErrInvalidArgument.WithMessage("failed to create task for container: " + err.Error())
	}
	return errors.Join(err, recorded)
}

// starting is a start that is under way until over is closed.
type starting struct{ over chan struct{} }

// awaitStart waits for the end of a start that is under way, if there is one: its
// process may have been seen already by what it has written.
func (c *container) awaitStart(ctx context.Context) {
	begun := c.starting.Load()
	if begun == nil {
		return
	}
	select {
	case <-begun.over:
	case <-ctx.Done():
	}
}

// runtimeError is what the runtime says about a process that it cannot start, as
// against what fails around it.
type runtimeError struct{ error }

func (e runtimeError) Unwrap() error { return e.error }

// launch does the steps of a start, and undoes them if one fails.
func (m *Manager) launch(ctx context.Context, c *container) (err error) {
	var undo cleanup.Stack
	defer undo.Run(ctx, &err)
	r := c.record.Load()
	if err := checkStorage(r.HostConfig); err != nil {
		return err
	}
	root, err := m.layers.mount(ctx, c.id)
	if err != nil {
		return err
	}
	undo.Add(func(context.Context) error { return m.layers.release(c.id) })
	mounts, err := m.mountVolumes(ctx, r, &undo)
	if err != nil {
		return err
	}
	gate, err := m.quiesce(ctx, c, root, mounts)
	if err != nil {
		return fmt.Errorf("preparing the copy of the database: %w", err)
	}
	netns, err := m.newSandbox(ctx, r, &undo)
	if err != nil {
		return err
	}
	files, err := m.writeFiles(c.record.Load())
	if err != nil {
		return err
	}
	io, err := m.prepareIO(ctx, c)
	if err != nil {
		return err
	}
	undo.Add(func(ctx context.Context) error { return m.finishIO(ctx, c) })
	shared, err := m.shareNamespaces(r, &undo)
	if err != nil {
		return err
	}
	shared.namespaces.Network = netns
	if err := m.connectFirst(ctx, r, gate); err != nil {
		return err
	}
	spec, err := m.spec(ctx, c.record.Load(), root, shared, append(files, mounts...))
	if err != nil {
		return err
	}

	// The network is set up while the shim starts.
	var task containerd.Task
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.connectBeside(groupCtx, r, gate) })
	group.Go(func() (err error) {
		task, err = m.createTask(ctx, r, spec, io)
		return err
	})
	undo.Add(func(ctx context.Context) error { return m.dropTask(ctx, c.id) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := m.completeHosts(r); err != nil {
		return err
	}
	failpoint.Hit("container.start.created")
	return m.begin(ctx, c, task, io, gate)
}

// begin starts the created task and publishes the run.
func (m *Manager) begin(ctx context.Context, c *container, task containerd.Task, io *stdio, gate bool) error {
	// The run ends with its process, not with the manager.
	life := context.WithoutCancel(m.background)
	defer span.Start(ctx, "start process")()
	exited, err := task.Wait(life)
	if err != nil {
		return err
	}
	began := time.Now() // before its first line of output
	if err := task.Start(ctx); err != nil {
		return runtimeError{err}
	}
	failpoint.Hit("container.start.started")
	run := newRun(life, task, exited)
	if err := c.update(func(r *Record) { r.State.begin(int(task.Pid()), began) }); err != nil {
		return err
	}
	failpoint.Hit("container.start.recorded")
	c.run.Store(run)
	if io.in != nil {
		if err := io.in.started(ctx, task); err != nil {
			m.log(c).WarnContext(ctx, "closing the container's input failed", slog.Any("error", err))
		}
	}
	m.publish(c, mobyevents.ActionStart, nil)
	m.supervise(c, run)
	m.monitor(c, run, gate)
	return nil
}

// newSandbox makes the container's network namespace; none for the host's network,
// nor for one that the runtime makes, without anything in it.
func (m *Manager) newSandbox(ctx context.Context, r *Record, undo *cleanup.Stack) (string, error) {
	defer span.Start(ctx, "network namespace")()
	if r.HostConfig.NetworkMode.IsHost() || r.Config.NetworkDisabled {
		return "", nil
	}
	path, err := m.cfg.Networks.NewSandbox(ctx, r.ID)
	if err != nil {
		return "", fmt.Errorf("making the network namespace: %w", err)
	}
	undo.Add(func(ctx context.Context) error { return m.cfg.Networks.DeleteSandbox(ctx, r.ID) })
	return path, nil
}

// connect gives the sandbox its endpoints.
func (m *Manager) connect(ctx context.Context, r *Record, gate bool) error {
	defer span.Start(ctx, "connect network")()
	for _, name := range networkOrder(r) {
		request := m.endpointRequest(r, name, r.Networks[name])
		request.Gate = gate
		if _, err := m.cfg.Networks.Connect(ctx, request); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) endpointRequest(r *Record, name string, wanted *mobynetwork.EndpointSettings) network.EndpointRequest {
	request := network.EndpointRequest{
		SandboxID: r.ID, Network: name, ContainerName: r.Name, Hostname: r.Config.Hostname,
		MAC: wanted.MacAddress, Aliases: wanted.Aliases, Links: wanted.Links, GwPriority: wanted.GwPriority, DNS: m.nameServers(r),
		Ports: r.HostConfig.PortBindings, Exposed: r.Config.ExposedPorts, PublishAll: r.HostConfig.PublishAllPorts,
		OnHost: listensOnHost(r),
	}
	if wanted.IPAMConfig != nil {
		request.IPv4 = wanted.IPAMConfig.IPv4Address
	}
	return request
}

// networkOrder is the order in which networks are connected: the first gives the
// default route and publishes the ports.
func networkOrder(r *Record) []string {
	return slices.SortedFunc(maps.Keys(r.Networks), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Networks[b].GwPriority, r.Networks[a].GwPriority), cmp.Compare(a, b))
	})
}

// spec builds the OCI specification of the main process.
func (m *Manager) spec(ctx context.Context, r *Record, root string, s shared, mounts []specs.Mount) (*specs.Spec, error) {
	user, err := m.resolveUser(r, root)
	if err != nil {
		return nil, err
	}
	args := arguments(r.Config)
	if r.Data != nil {
		args = append(args, r.Data.Quiesced.Args...)
	}
	cfg, args := m.tellAddress(r, args)
	return shim.Spec(ctx, shim.SpecRequest{
		ID: r.ID, Config: cfg, HostConfig: r.HostConfig, Args: args, User: user, Rootfs: root,
		Namespaces: s.namespaces, ShmPath: s.shm, Mounts: mounts,
		InitBinary: m.cfg.InitBinary, CgroupParent: m.cfg.CgroupParent, Ulimits: m.cfg.Defaults.Ulimits,
		Identity: m.cfg.Identity,
	})
}

// createTask starts the shim and has it create the container's process, which
// waits to be started.
func (m *Manager) createTask(ctx context.Context, r *Record, spec *specs.Spec, io *stdio) (containerd.Task, error) {
	defer span.Start(ctx, "create task")()
	name, options, err := m.cfg.Runtime.Runtime(r.HostConfig)
	if err != nil {
		return nil, err
	}
	// A daemon that was killed may have left one.
	if err := m.deleteTaskRecord(ctx, r.ID); err != nil {
		return nil, err
	}
	failpoint.Hit("container.start.runtime")
	c, err := m.cfg.Client.NewContainer(ctx, r.ID, containerd.WithRuntime(name, options), withSpec(spec))
	if err != nil {
		return nil, err
	}
	task, err := c.NewTask(ctx, io.creator(r.Config.Tty))
	if err != nil {
		return nil, runtimeError{err}
	}
	return task, nil
}

func withSpec(spec *specs.Spec) containerd.NewContainerOpts {
	return func(_ context.Context, _ *containerd.Client, c *containers.Container) (err error) {
		c.Spec, err = typeurl.MarshalAny(spec)
		return err
	}
}

// dropTask removes a task that did not come to run, with its process.
func (m *Manager) dropTask(ctx context.Context, id string) error {
	c, err := m.cfg.Client.LoadContainer(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	task, err := c.Task(ctx, nil)
	if err == nil {
		_, err = task.Delete(ctx, containerd.WithProcessKill)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return m.deleteTaskRecord(ctx, id)
}

// deleteTaskRecord removes containerd's record of the container, which exists
// only as long as its task.
func (m *Manager) deleteTaskRecord(ctx context.Context, id string) error {
	if err := m.cfg.Client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}
