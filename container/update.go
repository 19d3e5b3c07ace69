package container

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"

	"slipway/internal/failpoint"
	"slipway/shim"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// Update changes the limits and the restart policy of a container, those of its
// run, too, if it runs. It goes on when the client goes away.
//
// The record comes first, marked as unapplied: a daemon that dies in between leaves
// it to the next one to apply it.
func (m *Manager) Update(ctx context.Context, ref string, cfg mobycontainer.UpdateConfig) (mobycontainer.UpdateResponse, error) {
	warnings, err := shim.ValidateUpdate(&cfg)
	if err != nil {
		return mobycontainer.UpdateResponse{}, err
	}
	c, err := m.find(ref)
	if err != nil {
		return mobycontainer.UpdateResponse{}, err
	}
	ctx = context.WithoutCancel(ctx)
	unlock, err := m.transition(ctx, c, "update")
	if err != nil {
		return mobycontainer.UpdateResponse{}, err
	}
	defer unlock()
	if err := m.applyUpdate(ctx, c, cfg); err != nil {
		return mobycontainer.UpdateResponse{}, fmt.Errorf("Cannot update container %s: %w", c.id, err) //nolint:staticcheck // Docker's words
	}
	m.publish(c, mobyevents.ActionUpdate, nil)
	return mobycontainer.UpdateResponse{Warnings: warnings}, nil
}

// applyUpdate does the steps of an update. The container's lock is held.
func (m *Manager) applyUpdate(ctx context.Context, c *container, cfg mobycontainer.UpdateConfig) error {
	if oneOf(c.status(), mobycontainer.StateRemoving, mobycontainer.StateDead) {
		return errdefs.ErrConflict.WithMessage(`container is marked for removal and cannot be "update"`)
	}
	before := c.record.Load().HostConfig
	after, err := updated(before, cfg)
	if err != nil {
		return err
	}
	run := c.run.Load()
	if reflect.ValueOf(cfg.Resources).IsZero() {
		run = nil // nothing that concerns it
	}
	failpoint.Hit("container.update.begin")
	if err := c.update(func(r *Record) { r.HostConfig, r.State.Unapplied = after, run != nil }); err != nil {
		return err
	}
	failpoint.Hit("container.update.recorded")
	if run == nil {
		return nil
	}
	if err := run.limit(ctx, &after.Resources); err != nil && !run.ending(ctx) {
		return errors.Join(err, c.update(func(r *Record) { r.HostConfig, r.State.Unapplied = before, false }))
	}
	failpoint.Hit("container.update.applied")
	return c.update(func(r *Record) { r.State.Unapplied = false })
}

// updated is the configuration with what the update sets.
func updated(host *mobycontainer.HostConfig, cfg mobycontainer.UpdateConfig) (*mobycontainer.HostConfig, error) {
	after := *host
	if err := updateCPU(&after.Resources, &cfg.Resources); err != nil {
		return nil, err
	}
	if err := updateMemory(&after.Resources, &cfg.Resources); err != nil {
		return nil, err
	}
	if cfg.PidsLimit != nil {
		after.PidsLimit = cfg.PidsLimit
	}
	replace(&after.BlkioWeight, cfg.BlkioWeight)
	replaceAll(&after.BlkioWeightDevice, cfg.BlkioWeightDevice)
	replaceAll(&after.BlkioDeviceReadBps, cfg.BlkioDeviceReadBps)
	replaceAll(&after.BlkioDeviceWriteBps, cfg.BlkioDeviceWriteBps)
	replaceAll(&after.BlkioDeviceReadIOps, cfg.BlkioDeviceReadIOps)
	replaceAll(&after.BlkioDeviceWriteIOps, cfg.BlkioDeviceWriteIOps)
	if cfg.RestartPolicy.Name != "" {
		if host.AutoRemove && !cfg.RestartPolicy.IsNone() {
			return nil, errdefs.ErrConflict.WithMessage("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		after.RestartPolicy = cfg.RestartPolicy
	}
	return &after, nil
}

// replace sets what the update names; a zero means nothing there.
func replace[T comparable](of *T, to T) {
	var zero T
	if to != zero {
		*of = to
	}
}

// replaceAll is replace for lists.
func replaceAll[T any](of *[]T, to []T) {
	if len(to) > 0 {
		*of = to
	}
}

func updateCPU(of, to *mobycontainer.Resources) error {
	for _, conflict := range []struct {
		given bool
		what  string
	}{
		{to.NanoCPUs > 0 && of.CPUPeriod > 0, "Nano CPUs cannot be updated as CPU Period has already been set"},
		{to.NanoCPUs > 0 && of.CPUQuota > 0, "Nano CPUs cannot be updated as CPU Quota has already been set"},
		{to.CPUPeriod > 0 && of.NanoCPUs > 0, "CPU Period cannot be updated as NanoCPUs has already been set"},
		{to.CPUQuota > 0 && of.NanoCPUs > 0, "CPU Quota cannot be updated as NanoCPUs has already been set"},
	} {
		if conflict.given {
			return errdefs.ErrConflict.WithMessage("Conflicting options: " + conflict.what)
		}
	}
	replace(&of.CPUShares, to.CPUShares)
	replace(&of.NanoCPUs, to.NanoCPUs)
	replace(&of.CPUPeriod, to.CPUPeriod)
	replace(&of.CPUQuota, to.CPUQuota)
	replace(&of.CpusetCpus, to.CpusetCpus)
	replace(&of.CpusetMems, to.CpusetMems)
	return nil
}

func updateMemory(of, to *mobycontainer.Resources) error {
	swap := to.MemorySwap
	if to.Memory > of.MemorySwap && swap == 0 {
		switch of.MemorySwap {
		case 0: // as for a new container
			if swap = -1; to.Memory <= math.MaxInt64/2 {
				swap = 2 * to.Memory
			}
		case -1:
		default:
			return errdefs.ErrConflict.WithMessage(
				"Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
		}
	}
	replace(&of.Memory, to.Memory)
	replace(&of.MemorySwap, swap)
	replace(&of.MemoryReservation, to.MemoryReservation)
	return nil
}
