package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const allAccess = "rwm"

// defaultDeviceRules returns the device cgroup's rules: nothing but the
// character devices that every container has. The runtime makes those nodes
// without being told.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rule := func(allow bool, major, minor int64) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: &major, Minor: &minor, Access: allAccess}
	}
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: allAccess},
		rule(true, 1, 5),     // zero
		rule(true, 1, 3),     // null
		rule(true, 1, 9),     // urandom
		rule(true, 1, 8),     // random
		rule(true, 5, 0),     // tty
		rule(true, 5, 1),     // console
		rule(false, 10, 229), // fuse
	}
}

// setDevices adds the device nodes and the rules of their use.
func setDevices(spec *specs.Spec, host *mobycontainer.HostConfig) error {
	rules := defaultDeviceRules()
	var devices []specs.LinuxDevice
	if host.Privileged {
		all, err := oci.HostDevices()
		if err != nil {
			return fmt.Errorf("listing the host's devices: %w", err)
		}
		devices = all
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Access: allAccess})
	}
	for _, mapping := range host.Devices {
		if host.Privileged && mapping.PathOnHost == mapping.PathInContainer {
			continue // it is there already
		}
		access := mapping.CgroupPermissions
		if access == "" || host.Privileged {
			access = allAccess
		}
		found, err := devicesAt(mapping.PathOnHost, mapping.PathInContainer)
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(
				fmt.Sprintf("error gathering device information while adding custom device %q: %s", mapping.PathOnHost, err))
		}
		for _, d := range found {
			devices = append(devices, d)
			if !host.Privileged {
				major, minor := d.Major, d.Minor
				rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &major, Minor: &minor, Access: access})
			}
		}
	}
	custom, err := deviceRules(host.DeviceCgroupRules)
	if err != nil {
		return err
	}
	if !host.Privileged {
		rules = append(rules, custom...)
	}
	spec.Linux.Devices = devices
	spec.Linux.Resources.Devices = rules
	return nil
}

// devicesAt returns the device at path, or all those below it if it is a
// directory, as they are to appear at target. Symbolic links are followed.
func devicesAt(path, target string) ([]specs.LinuxDevice, error) {
	if target == "" {
		target = path
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	device, err := oci.DeviceFromPath(resolved)
	if err == nil {
		device.Path = target
		return []specs.LinuxDevice{*device}, nil
	}
	if !errors.Is(err, oci.ErrNotADevice) || !dirExists(resolved) {
		return nil, err
	}
	var found []specs.LinuxDevice
	walkErr := filepath.WalkDir(resolved, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil // vanished meanwhile, as devices do
		}
		if device, err := oci.DeviceFromPath(path); err == nil {
			device.Path = filepath.Join(target, strings.TrimPrefix(path, resolved))
			found = append(found, *device)
		}
		return nil
	})
	if walkErr != nil || len(found) == 0 {
		return nil, errors.Join(err, walkErr)
	}
	return found, nil
}

var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// deviceRules parses the values of --device-cgroup-rule.
func deviceRules(rules []string) ([]specs.LinuxDeviceCgroup, error) {
	parsed := make([]specs.LinuxDeviceCgroup, 0, len(rules))
	for _, rule := range rules {
		match := deviceRule.FindStringSubmatch(rule)
		if match == nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid device cgroup rule format: '%s'", rule))
		}
		major, majorErr := number(match[2])
		minor, minorErr := number(match[3])
		if err := errors.Join(majorErr, minorErr); err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid value in device cgroup rule format: '%s'", rule))
		}
		parsed = append(parsed, specs.LinuxDeviceCgroup{Allow: true, Type: match[1], Major: &major, Minor: &minor, Access: match[4]})
	}
	return parsed, nil
}

// number reads a device number; "*" is -1, the specification's wildcard.
func number(s string) (int64, error) {
	if s == "*" {
		return -1, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// validAccess reports whether access consists of r, w and m, each at most once.
func validAccess(access string) bool {
	letters := strings.Split(access, "")
	slices.Sort(letters)
	return len(slices.Compact(letters)) == len(access) && strings.Trim(access, allAccess) == ""
}
