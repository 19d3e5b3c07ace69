package container

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"slipway/internal/cleanup"
	"slipway/shim"

	"github.com/containerd/errdefs"
)

// shared are the namespaces that a container has in common with others, and the
// shared memory that goes with one of them.
type shared struct {
	namespaces shim.Namespaces
	shm        string
}

// shareNamespaces finds the namespaces of other containers that the request
// wants to join, and makes the shared memory that others may join.
func (m *Manager) shareNamespaces(r *Record, undo *cleanup.Stack) (s shared, err error) {
	host := r.HostConfig
	if host.IpcMode.IsShareable() {
		s.shm = m.shmPath(r.ID)
		if err := shim.MountShm(s.shm, host.ShmSize); err != nil {
			return s, err
		}
		undo.Add(func(context.Context) error { return shim.UnmountShm(s.shm) })
	}
	if host.IpcMode.IsContainer() {
		var owner string
		if owner, s.namespaces.IPC, err = m.namespaceOf(host.IpcMode.Container(), "ipc"); err != nil {
			return s, err
		}
		s.shm = m.shmPath(owner)
		if c, err := m.find(owner); err != nil || !c.record.Load().HostConfig.IpcMode.IsShareable() {
			return s, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
				"can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", owner))
		}
	}
	if mode := string(host.PidMode); host.PidMode.IsContainer() {
		if _, s.namespaces.PID, err = m.namespaceOf(strings.TrimPrefix(mode, "container:"), "pid"); err != nil {
			return s, err
		}
	}
	return s, nil
}

// namespaceOf returns another container's id and the path of its namespace.
func (m *Manager) namespaceOf(ref, kind string) (id, path string, err error) {
	c, err := m.find(ref)
	if err != nil {
		return "", "", err
	}
	run := c.run.Load()
	if run == nil {
		return "", "", errdefs.ErrConflict.WithMessage(fmt.Sprintf("cannot join %s namespace of a non running container: container %s is %s",
			strings.ToUpper(kind), strings.TrimPrefix(c.record.Load().Name, "/"), c.status()))
	}
	return c.id, fmt.Sprintf("/proc/%d/ns/%s", run.task.Pid(), kind), nil
}

func (m *Manager) shmPath(id string) string {
	return filepath.Join(m.cfg.ExecRoot, "shm", id)
}
