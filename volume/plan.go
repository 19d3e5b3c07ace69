package volume

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	mobycontainer "github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"
)

// PlanRequest is what decides a container's mounts.
type PlanRequest struct {
	// Config has the image's volumes merged in.
	Config     *mobycontainer.Config
	HostConfig *mobycontainer.HostConfig
	// From returns the mounts of another container, for --volumes-from.
	From func(container string) ([]MountPoint, error)
	// DataRoot is the engine's own directory, which binds are careful with.
	DataRoot string
	// Exists tells whether a path is on the host. Nil: os.Stat tells.
	Exists func(path string) (bool, error)
}

// Plan returns the mounts of a container, parents first. It makes nothing. Later
// sources win over earlier ones that have the same target: other containers'
// volumes, then Binds and Mounts, which must not collide with each other or with
// Tmpfs; the volumes that image and request declare come where nothing else is.
// HostConfig.Tmpfs is not in the result.
//
// Errors have the class InvalidArgument, or NotImplemented for what mounts cannot be
// on this system, and Docker's words.
func Plan(r PlanRequest) ([]MountPoint, error) {
	mounts := map[string]MountPoint{}
	if err := r.addOthers(mounts); err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for target := range r.HostConfig.Tmpfs {
		destination, err := destinationOf(target)
		if err != nil {
			return nil, err
		}
		taken[placeKey(destination)] = true
	}
	add := func(p MountPoint, target string) error {
		key := placeKey(p.Destination)
		if taken[key] {
			return invalid("Duplicate mount point: %s", target)
		}
		taken[key] = true
		mounts[key] = p
		return nil
	}
	for _, raw := range r.HostConfig.Binds {
		p, err := r.parseBind(raw)
		if err != nil {
			return nil, err
		}
		if err := add(p, p.Destination); err != nil {
			return nil, err
		}
	}
	for _, spec := range r.HostConfig.Mounts {
		p, err := r.fromSpec(spec, true)
		if err != nil {
			return nil, err
		}
		if p.Type == mobymount.TypeVolume {
			p.Mode = defaultMode
		}
		if err := add(p, spec.Target); err != nil {
			return nil, err
		}
	}
	if err := r.addDeclared(mounts, taken); err != nil {
		return nil, err
	}
	return sorted(mounts), nil
}

// addOthers adds the mounts of the containers in VolumesFrom.
func (r *PlanRequest) addOthers(mounts map[string]MountPoint) error {
	for _, spec := range r.HostConfig.VolumesFrom {
		container, readOnly, err := parseVolumesFrom(spec)
		if err != nil {
			return err
		}
		others, err := r.From(container)
		if err != nil {
			return err
		}
		for _, p := range others {
			p.RW = p.RW && !readOnly
			p.CopyData = false
			p.Mode = ""
			mounts[placeKey(p.Destination)] = p
		}
	}
	return nil
}

// addDeclared adds an anonymous volume for every declared one whose place is free.
func (r *PlanRequest) addDeclared(mounts map[string]MountPoint, taken map[string]bool) error {
	for target := range r.Config.Volumes {
		destination, err := destinationOf(target)
		if err != nil {
			return err
		}
		key := placeKey(destination)
		if _, known := mounts[key]; known || taken[key] {
			continue
		}
		mounts[key] = MountPoint{
			Type: mobymount.TypeVolume, Destination: destination, Driver: r.HostConfig.VolumeDriver, RW: true, CopyData: true,
			Spec: mobymount.Mount{Type: mobymount.TypeVolume, Target: destination},
		}
	}
	return nil
}

func (r *PlanRequest) exists(source string) (bool, error) {
	if r.Exists != nil {
		return r.Exists(source)
	}
	_, err := os.Stat(source)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// sorted puts parents before what is mounted below them.
func sorted(mounts map[string]MountPoint) []MountPoint {
	list := make([]MountPoint, 0, len(mounts))
	for _, p := range mounts {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b MountPoint) int {
		if d := depth(a.Destination) - depth(b.Destination); d != 0 {
			return d
		}
		return strings.Compare(a.Destination, b.Destination)
	})
	return list
}
