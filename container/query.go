package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// User is a container that was made from an image.
type User struct {
	ID      string
	Running bool
}

// UsersOf returns the containers that were made from the image with this ID.
func (m *Manager) UsersOf(imageID string) []User {
	var users []User
	for _, c := range m.all() {
		if r := c.record.Load(); r.Image.ID == imageID {
			users = append(users, User{ID: r.ID, Running: r.State.Running()})
		}
	}
	return users
}

// Counts returns how many containers run, are paused, and do neither.
func (m *Manager) Counts() (running, paused, stopped int) {
	for _, c := range m.all() {
		switch c.status() {
		case mobycontainer.StateRunning:
			running++
		case mobycontainer.StatePaused:
			paused++
		default:
			stopped++
		}
	}
	return running, paused, stopped
}

// IDs returns the ids of all containers.
func (m *Manager) IDs() []string {
	list := m.all()
	ids := make([]string, len(list))
	for i, c := range list {
		ids[i] = c.id
	}
	return ids
}

// Hold takes the locks of all containers that nothing is being done with, so that
// they stay as they are until release. It returns the ids of the others.
func (m *Manager) Hold() (busy []string, release func()) {
	var unlocks []func()
	for _, c := range m.all() {
		if unlock, ok := m.locks.TryLock(c.id); ok {
			unlocks = append(unlocks, unlock)
		} else {
			busy = append(busy, c.id)
		}
	}
	return busy, func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}
}

// Running returns the ids of the containers that have a main process.
func (m *Manager) Running() []string {
	var ids []string
	for _, c := range m.all() {
		if c.run.Load() != nil {
			ids = append(ids, c.id)
		}
	}
	return ids
}

// Lost describes what containers' records promise and is not there.
func (m *Manager) Lost(ctx context.Context) ([]string, error) {
	var lost []string
	for _, id := range m.unreadable {
		lost = append(lost, fmt.Sprintf("the record of container %s cannot be read", id))
	}
	for _, c := range m.all() {
		if _, err := m.layers.snapshotter().Stat(ctx, c.id); errdefs.IsNotFound(err) {
			lost = append(lost, fmt.Sprintf("container %s has lost its layer", c.id))
		} else if err != nil {
			return nil, err
		}
		owner, err := m.names.Owner(c.record.Load().Name)
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		if owner != c.id {
			lost = append(lost, fmt.Sprintf("container %s has lost its name %q", c.id, c.record.Load().Name))
		}
		if _, err := os.Stat(m.dir(c.id)); errors.Is(err, fs.ErrNotExist) {
			lost = append(lost, fmt.Sprintf("container %s has lost its directory", c.id))
		} else if err != nil {
			return nil, err
		}
		if run := c.run.Load(); run != nil {
			if _, err := run.task.Status(ctx); errdefs.IsNotFound(err) {
				lost = append(lost, fmt.Sprintf("container %s is recorded as running and has no task", c.id))
			}
		}
	}
	return lost, nil
}
