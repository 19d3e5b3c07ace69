package daemon

import (
	"context"

	"slipway/api"
	"slipway/container"
	"slipway/image"

	"github.com/moby/moby/api/types/build"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	mobyvolume "github.com/moby/moby/api/types/volume"
	"golang.org/x/sync/errgroup"
)

// DiskUsage measures each kind of objects that is asked for.
func (s *systemInfo) DiskUsage(ctx context.Context, opts api.DiskUsageOptions) (usage system.DiskUsage, err error) {
	group, ctx := errgroup.WithContext(ctx)
	if opts.Containers {
		group.Go(func() (err error) { usage.ContainerUsage, err = s.containerUsage(ctx); return err })
	}
	if opts.Images {
		group.Go(func() (err error) { usage.ImageUsage, err = s.imageUsage(ctx); return err })
	}
	if opts.Volumes {
		group.Go(func() (err error) { usage.VolumeUsage, err = s.volumeUsage(ctx); return err })
	}
	if opts.BuildCache {
		usage.BuildCacheUsage = &build.DiskUsage{Items: []build.CacheRecord{}}
	}
	return usage, group.Wait()
}

func (s *systemInfo) containerUsage(ctx context.Context) (*mobycontainer.DiskUsage, error) {
	list, err := s.d.containers.List(ctx, container.ListOptions{All: true, Size: true})
	if err != nil {
		return nil, err
	}
	usage := &mobycontainer.DiskUsage{Items: list, TotalCount: int64(len(list))}
	for _, c := range list {
		usage.TotalSize += c.SizeRw
		switch c.State {
		case mobycontainer.StateRunning, mobycontainer.StatePaused, mobycontainer.StateRestarting:
			usage.ActiveCount++
		default:
			usage.Reclaimable += c.SizeRw
		}
	}
	return usage, nil
}

func (s *systemInfo) imageUsage(ctx context.Context) (*mobyimage.DiskUsage, error) {
	users := images{s.d.images, s.d.containers}.users
	list, err := s.d.images.List(ctx, image.ListOptions{SharedSize: true, Containers: users})
	if err != nil {
		return nil, err
	}
	usage := &mobyimage.DiskUsage{Items: list, TotalCount: int64(len(list))}
	if usage.TotalSize, err = s.d.images.DiskUsage(ctx); err != nil {
		return nil, err
	}
	for _, i := range list {
		if i.Containers > 0 {
			usage.ActiveCount++
		} else {
			usage.Reclaimable += i.Size - i.SharedSize
		}
	}
	return usage, nil
}

func (s *systemInfo) volumeUsage(ctx context.Context) (*mobyvolume.DiskUsage, error) {
	list, err := s.d.volumes.Usage(ctx)
	if err != nil {
		return nil, err
	}
	usage := &mobyvolume.DiskUsage{Items: list, TotalCount: int64(len(list))}
	for _, v := range list {
		size := max(v.UsageData.Size, 0) // what is mounted there from elsewhere is not measured
		usage.TotalSize += size
		if v.UsageData.RefCount > 0 {
			usage.ActiveCount++
		} else {
			usage.Reclaimable += size
		}
	}
	return usage, nil
}
