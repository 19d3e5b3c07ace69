package volume

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	mobymount "github.com/moby/moby/api/types/mount"
)

// options are the comma-separated options of a bind.
type options struct {
	readOnly, noCopy bool
	propagation      mobymount.Propagation
}

// parseOptions reads a mode such as "ro,z,rslave". Of each kind of option there
// may be one.
func parseOptions(mode string) (o options, ok bool) {
	if mode == "" {
		return o, true
	}
	var access, label, propagation, copying, consistency int
	for option := range strings.SplitSeq(mode, ",") {
		switch option {
		case "ro", "rw":
			o.readOnly = option == "ro"
			access++
		case "z", "Z": // SELinux labels, without effect where SELinux is off
			label++
		case "nocopy":
			o.noCopy = true
			copying++
		case "consistent", "cached", "delegated": // for other systems' file sharing
			consistency++
		default:
			if !slices.Contains(mobymount.Propagations, mobymount.Propagation(option)) {
				return options{}, false
			}
			o.propagation = mobymount.Propagation(option)
			propagation++
		}
	}
	return o, max(access, label, propagation, copying, consistency) <= 1
}

func invalidSpec(raw string) string { return fmt.Sprintf("invalid volume specification: '%s'", raw) }

// parseBind reads one of HostConfig.Binds: "[source:]target[:options]".
func (r *PlanRequest) parseBind(raw string) (MountPoint, error) {
	parts := splitBind(raw)
	var mode string
	spec := mobymount.Mount{Target: parts[0]}
	switch {
	case parts[0] == "":
		return MountPoint{}, invalid("%s", invalidSpec(raw))
	case len(parts) == 1:
	case len(parts) == 2:
		if _, isMode := parseOptions(parts[1]); isMode {
			return MountPoint{}, invalid("%s", invalidSpec(raw))
		}
		spec.Source, spec.Target = parts[0], parts[1]
	case len(parts) == 3:
		spec.Source, spec.Target, mode = parts[0], parts[1], parts[2]
	default:
		return MountPoint{}, invalid("%s", invalidSpec(raw))
	}
	o, ok := parseOptions(mode)
	if !ok {
		return MountPoint{}, invalid("invalid mode: %s", mode)
	}
	spec.Type = mobymount.TypeVolume
	if isHostPath(spec.Source) {
		spec.Type = mobymount.TypeBind
	}
	spec.ReadOnly = o.readOnly
	if spec.Type == mobymount.TypeVolume && (r.HostConfig.VolumeDriver != "" || o.noCopy) {
		spec.VolumeOptions = &mobymount.VolumeOptions{NoCopy: o.noCopy}
		if r.HostConfig.VolumeDriver != "" {
			spec.VolumeOptions.DriverConfig = &mobymount.Driver{Name: r.HostConfig.VolumeDriver}
		}
	}
	if spec.Type == mobymount.TypeBind && o.noCopy {
		return MountPoint{}, invalid("%s: invalid mount config for type %q: field VolumeOptions must not be specified", invalidSpec(raw), spec.Type)
	}
	if o.propagation != "" {
		spec.BindOptions = &mobymount.BindOptions{Propagation: o.propagation}
	}
	p, err := r.fromSpec(spec, false)
	if err != nil {
		return MountPoint{}, fmt.Errorf("%s: %w", invalidSpec(raw), err)
	}
	p.Mode = mode
	p.CreateSource = spec.Type == mobymount.TypeBind
	if spec.Type == mobymount.TypeVolume && mode == "" {
		p.Mode = defaultMode
	}
	return p, nil
}

// fromSpec turns a valid mount request into a mount.
func (r *PlanRequest) fromSpec(spec mobymount.Mount, sourceMustExist bool) (MountPoint, error) {
	if err := r.validate(spec, sourceMustExist); err != nil {
		return MountPoint{}, fmt.Errorf("invalid mount config for type %q: %w", spec.Type, err)
	}
	destination, err := destinationOf(spec.Target)
	if err != nil {
		return MountPoint{}, fmt.Errorf("invalid mount config for type %q: %w", spec.Type, err)
	}
	p := MountPoint{Type: spec.Type, RW: !spec.ReadOnly, Destination: destination, Spec: spec}
	switch spec.Type {
	case mobymount.TypeVolume:
		p.Name, p.CopyData = spec.Source, true
		if o := spec.VolumeOptions; o != nil {
			p.CopyData = !o.NoCopy
			if o.DriverConfig != nil {
				p.Driver = o.DriverConfig.Name
			}
		}
	case mobymount.TypeBind:
		p.Source = filepath.Clean(spec.Source)
		p.CreateSource = spec.BindOptions != nil && spec.BindOptions.CreateMountpoint
		return p, r.setPropagation(&p)
	default: // a tmpfs has neither
	}
	return p, nil
}

// setPropagation chooses how mounts travel between host and container. A bind
// that contains the engine's own directories, or is one of them, must let go of
// mounts that the engine unmounts.
func (r *PlanRequest) setPropagation(p *MountPoint) error {
	if !hasMounts {
		return nil
	}
	if o := p.Spec.BindOptions; o != nil {
		p.Propagation = o.Propagation
	}
	p.FreePropagation = p.Propagation == ""
	if p.FreePropagation {
		p.Propagation = mobymount.PropagationRPrivate
	}
	if r.DataRoot == "" || !within(p.Source, r.DataRoot) && !within(r.DataRoot, p.Source) {
		return nil
	}
	switch {
	case p.FreePropagation:
		p.Propagation = mobymount.PropagationRSlave
	case p.Propagation != mobymount.PropagationRSlave && p.Propagation != mobymount.PropagationRShared:
		return invalid(`invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is `+
			`within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q`, r.DataRoot, p.Source, p.Propagation)
	}
	return nil
}

// within reports whether dir is root or below it.
func within(dir, root string) bool {
	return dir == root || strings.HasPrefix(dir, strings.TrimSuffix(root, string(filepath.Separator))+string(filepath.Separator))
}

func (r *PlanRequest) validate(spec mobymount.Mount, sourceMustExist bool) error {
	if err := validateOwnOptions(spec); err != nil {
		return err
	}
	if spec.Target == "" {
		return invalid("field Target must not be empty")
	}
	if _, err := destinationOf(spec.Target); err != nil {
		return err
	}
	if err := honoured(spec); err != nil {
		return err
	}
	switch spec.Type {
	case mobymount.TypeBind:
		return r.validateBind(spec, sourceMustExist)
	case mobymount.TypeVolume:
		return validateVolume(spec)
	case mobymount.TypeTmpfs:
		if spec.Source != "" {
			return invalid("field Source must not be specified")
		}
		_, err := tmpfsOptions(spec.TmpfsOptions, spec.ReadOnly)
		return err
	case mobymount.TypeImage:
		return invalid("mounts of type image are not supported yet")
	default:
		return invalid("mount type unknown")
	}
}

// validateOwnOptions refuses options that belong to another type of mount.
func validateOwnOptions(spec mobymount.Mount) error {
	for _, o := range []struct {
		of    mobymount.Type
		given bool
		name  string
	}{
		{mobymount.TypeBind, spec.BindOptions != nil, "BindOptions"},
		{mobymount.TypeVolume, spec.VolumeOptions != nil, "VolumeOptions"},
		{mobymount.TypeImage, spec.ImageOptions != nil, "ImageOptions"},
		{mobymount.TypeTmpfs, spec.TmpfsOptions != nil, "TmpfsOptions"},
		{mobymount.TypeCluster, spec.ClusterOptions != nil, "ClusterOptions"},
	} {
		if o.given && spec.Type != o.of {
			return invalid("field %s must not be specified", o.name)
		}
	}
	return nil
}

func (r *PlanRequest) validateBind(spec mobymount.Mount, sourceMustExist bool) error {
	if spec.Source == "" {
		return invalid("field Source must not be empty")
	}
	o := spec.BindOptions
	if o == nil {
		o = &mobymount.BindOptions{}
	}
	if o.Propagation != "" && !slices.Contains(mobymount.Propagations, o.Propagation) {
		return invalid("invalid propagation mode: %s", o.Propagation)
	}
	if !isHostPath(spec.Source) {
		return invalid("invalid mount path: '%s' mount path must be absolute", spec.Source)
	}
	switch {
	case !spec.ReadOnly && o.ReadOnlyNonRecursive:
		return invalid("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
	case !spec.ReadOnly && o.ReadOnlyForceRecursive:
		return invalid("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
	case o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive:
		return invalid("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
	}
	if !sourceMustExist || o.CreateMountpoint {
		return nil
	}
	exists, err := r.exists(spec.Source)
	if err == nil && !exists {
		err = invalid("bind source path does not exist: %s", spec.Source)
	}
	return err
}

func validateVolume(spec mobymount.Mount) error {
	if o := spec.VolumeOptions; o != nil && o.Subpath != "" {
		if spec.Source == "" {
			return invalid("must not set Subpath when using anonymous volumes")
		}
		if !filepath.IsLocal(o.Subpath) {
			return invalid("subpath must be a relative path within the volume")
		}
	}
	return nil
}

// parseVolumesFrom reads one of HostConfig.VolumesFrom: "container[:mode]".
func parseVolumesFrom(spec string) (container string, readOnly bool, err error) {
	if spec == "" {
		return "", false, invalid("volumes-from specification cannot be an empty string")
	}
	container, mode, _ := strings.Cut(spec, ":")
	o, ok := parseOptions(mode)
	if !ok || o.propagation != "" || o.noCopy {
		return "", false, invalid("invalid mode: %s", mode)
	}
	if o.readOnly {
		if err := readOnlyError(); err != nil {
			return "", false, err
		}
	}
	return container, o.readOnly, nil
}
