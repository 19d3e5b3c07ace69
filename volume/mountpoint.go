package volume

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	mobycontainer "github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// MountPoint is one resolved mount of a container. It is part of the container's
// record.
type MountPoint struct {
	Type        mobymount.Type
	Name        string `json:",omitempty"` // of a volume; empty before Attach for an anonymous one
	Source      string `json:",omitempty"` // host path of a bind, or of a volume's data
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string `json:",omitempty"` // options as the user wrote them
	RW          bool
	Propagation mobymount.Propagation `json:",omitempty"`
	// CopyData says that the volume, if empty, is filled from the image.
	CopyData bool `json:",omitempty"`
	// CreateSource says that a missing source of a bind is made, a directory.
	CreateSource bool `json:",omitempty"`
	// FreePropagation says that Propagation was not the user's choice.
	FreePropagation bool `json:",omitempty"`
	// Spec is the request that the mount came from.
	Spec mobymount.Mount
}

// IsAnonymous reports whether the mount's volume was made for it without a name.
func (p MountPoint) IsAnonymous() bool {
	return p.Type == mobymount.TypeVolume && p.Spec.Source == ""
}

// API returns the mount as `docker inspect` shows it.
func (p MountPoint) API() mobycontainer.MountPoint {
	return mobycontainer.MountPoint{
		Type: p.Type, Name: p.Name, Source: p.Source, Destination: p.Destination,
		Driver: p.Driver, Mode: p.Mode, RW: p.RW, Propagation: p.Propagation,
	}
}

// OCI returns the mount for the runtime specification. source is what
// [Manager.Mount] returned. A read-only bind covers the mounts below it where
// kernel and request allow. Where the system has no mounts, the result has no type
// and options: the source has to come to lie at the destination in another way.
func (p MountPoint) OCI(source string) (specs.Mount, error) {
	if !hasMounts {
		return specs.Mount{Destination: p.Destination, Source: source}, nil
	}
	if p.Type == mobymount.TypeTmpfs {
		options, err := tmpfsOptions(p.Spec.TmpfsOptions, p.Spec.ReadOnly)
		if err != nil {
			return specs.Mount{}, err
		}
		return specs.Mount{Destination: p.Destination, Type: "tmpfs", Source: "tmpfs", Options: options}, nil
	}
	bind := p.Spec.BindOptions
	if bind == nil {
		bind = &mobymount.BindOptions{}
	}
	options := []string{"rbind"}
	if bind.NonRecursive {
		options[0] = "bind"
	}
	if !p.RW {
		supported := recursiveReadonly()
		switch {
		case bind.ReadOnlyForceRecursive && !supported:
			return specs.Mount{}, invalid("mount %s: the kernel cannot make a mount recursively read-only (needs 5.12)", p.Destination)
		case supported && !bind.ReadOnlyNonRecursive:
			options = append(options, "rro")
		default:
			options = append(options, "ro")
		}
	}
	if propagation := p.propagation(source); propagation != "" {
		options = append(options, string(propagation))
	}
	return specs.Mount{Destination: p.Destination, Type: "bind", Source: source, Options: options}, nil
}

// propagation returns the mount's propagation. A default of rslave, which is
// given to binds of the engine's own directories, needs a source that
// propagates.
func (p MountPoint) propagation(source string) mobymount.Propagation {
	switch {
	case p.Type == mobymount.TypeVolume && p.Propagation == "":
		return mobymount.PropagationRPrivate
	case p.FreePropagation && p.Propagation == mobymount.PropagationRSlave && !propagates(source):
		return mobymount.PropagationRPrivate
	default:
		return p.Propagation
	}
}

// tmpfsOptions returns the mount options of a mount of type tmpfs.
func tmpfsOptions(o *mobymount.TmpfsOptions, readOnly bool) ([]string, error) {
	var options []string
	if readOnly {
		options = append(options, "ro")
	}
	if o == nil {
		return options, nil
	}
	if o.Mode != 0 {
		options = append(options, fmt.Sprintf("mode=%o", o.Mode))
	}
	switch {
	case o.SizeBytes < 0:
		return nil, invalid("invalid tmpfs size %d", o.SizeBytes)
	case o.SizeBytes > 0:
		options = append(options, "size="+shortSize(o.SizeBytes))
	}
	for _, option := range o.Options {
		switch {
		case len(option) < 1 || len(option) > 2:
			return nil, invalid("invalid option array length")
		case option[0] != "exec" && option[0] != "noexec":
			return nil, invalid("invalid option: %s", option[0])
		}
		options = append(options, strings.Join(option, "="))
	}
	return options, nil
}

// shortSize writes bytes in the largest unit that divides them.
func shortSize(bytes int64) string {
	for _, unit := range []struct {
		suffix string
		size   int64
	}{{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}} {
		if bytes%unit.size == 0 {
			return fmt.Sprintf("%d%s", bytes/unit.size, unit.suffix)
		}
	}
	return strconv.FormatInt(bytes, 10)
}

// depth is how many directories lead to a path.
func depth(p string) int {
	p = filepath.Clean(p)
	return strings.Count(strings.TrimSuffix(p, string(filepath.Separator)), string(filepath.Separator))
}
