package shim

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const devShm = "/dev/shm"

// defaultMounts returns what every container has mounted.
func defaultMounts() []specs.Mount {
	mount := func(target, kind, source string, options ...string) specs.Mount {
		return specs.Mount{Destination: target, Type: kind, Source: source, Options: options}
	}
	return []specs.Mount{
		mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
		mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
		mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
		mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
		mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
		mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
		mount(devShm, "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777"),
	}
}

// setMounts lists the default mounts, then those of the request. spec.Mounts may
// hold mounts of this package's own (the init program).
func setMounts(spec *specs.Spec, req SpecRequest, options security) error {
	host := req.HostConfig
	wanted, err := requestedMounts(req)
	if err != nil {
		return err
	}
	isUsers := map[string]bool{}
	for _, m := range wanted {
		isUsers[m.Destination] = true
	}
	mounts := append(slices.DeleteFunc(defaultMounts(), func(m specs.Mount) bool {
		return isUsers[m.Destination] ||
			isUsers["/dev"] && strings.HasPrefix(m.Destination, "/dev/") ||
			m.Destination == devShm && host.IpcMode.IsNone()
	}), spec.Mounts...)
	for i := range mounts {
		m := &mounts[i]
		switch {
		case m.Destination == devShm:
			m.Options = append(m.Options, "size="+strconv.FormatInt(host.ShmSize, 10))
		case m.Destination == "/sys" && host.Privileged:
			m.Options = withoutReadonly(m.Options)
		case m.Type == "cgroup" && writableCgroups(host, options):
			m.Options = withoutReadonly(m.Options)
		}
		if host.ReadonlyRootfs && !staysWritable(m.Destination) && !host.Privileged && !slices.Contains(m.Options, "ro") {
			m.Options = append(m.Options, "ro")
		}
	}
	for _, m := range wanted {
		if err := setRootPropagation(spec, m); err != nil {
			return err
		}
		mounts = append(mounts, m)
	}
	spec.Mounts = mounts
	return nil
}

// staysWritable names the default mounts that a read-only root does not cover.
func staysWritable(target string) bool {
	switch target {
	case "/proc", "/dev", "/dev/pts", "/dev/mqueue", devShm:
		return true
	default:
		return false
	}
}

func writableCgroups(host *mobycontainer.HostConfig, options security) bool {
	if options.writableCgroups != nil {
		return *options.writableCgroups
	}
	return host.Privileged
}

func withoutReadonly(options []string) []string {
	return slices.DeleteFunc(options, func(o string) bool { return o == "ro" })
}

// requestedMounts returns the request's mounts, those of HostConfig.Tmpfs and a
// shared /dev/shm, parents first.
func requestedMounts(req SpecRequest) ([]specs.Mount, error) {
	mounts := make([]specs.Mount, 0, len(req.Mounts)+len(req.HostConfig.Tmpfs)+1)
	hasShm := false
	for _, m := range req.Mounts {
		m.Options = slices.Clone(m.Options)
		if m.Type == "tmpfs" {
			merged, err := tmpfsOptions(m.Options)
			if err != nil {
				return nil, err
			}
			m.Source, m.Options = "tmpfs", merged
		}
		hasShm = hasShm || m.Destination == devShm
		mounts = append(mounts, m)
	}
	for target, list := range req.HostConfig.Tmpfs {
		target = filepath.Clean(target)
		merged, err := tmpfsOptions(splitOptions(list))
		if err != nil {
			return nil, err
		}
		hasShm = hasShm || target == devShm
		mounts = append(mounts, specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: merged})
	}
	if source, err := sharedShm(req); err != nil {
		return nil, err
	} else if source != "" && !hasShm {
		mounts = append(mounts, specs.Mount{Destination: devShm, Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}})
	}
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int {
		if d := depth(a.Destination) - depth(b.Destination); d != 0 {
			return d
		}
		return strings.Compare(a.Destination, b.Destination)
	})
	return mounts, nil
}

func depth(path string) int {
	return strings.Count(strings.TrimSuffix(filepath.Clean(path), "/"), "/")
}

func splitOptions(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// sharedShm returns the host directory that is the container's /dev/shm, or ""
// if the container has its own or none.
func sharedShm(req SpecRequest) (string, error) {
	switch mode := req.HostConfig.IpcMode; {
	case mode.IsHost():
		if !dirExists(devShm) {
			return "", errdefs.ErrFailedPrecondition.WithMessage("/dev/shm is not mounted, but must be for --ipc=host")
		}
		return devShm, nil
	case mode.IsShareable(), mode.IsContainer():
		return req.ShmPath, nil
	default:
		return "", nil
	}
}

// tmpfsFlags are the mount flags that a tmpfs takes, with what each excludes.
var tmpfsFlags = map[string]string{
	"ro": "write", "rw": "write", "exec": "exec", "noexec": "exec", "suid": "suid", "nosuid": "suid", "dev": "dev", "nodev": "dev",
	"sync": "sync", "async": "sync", "dirsync": "dirsync", "remount": "remount", "mand": "mand", "nomand": "mand",
	"atime": "atime", "noatime": "atime", "diratime": "diratime", "nodiratime": "diratime",
	"relatime": "relatime", "norelatime": "relatime", "strictatime": "strictatime", "nostrictatime": "strictatime",
	"private": "propagation", "rprivate": "propagation", "shared": "propagation", "rshared": "propagation",
	"slave": "propagation", "rslave": "propagation", "unbindable": "propagation", "runbindable": "propagation",
}

var tmpfsData = map[string]bool{
	"size": true, "mode": true, "uid": true, "gid": true, "nr_inodes": true, "nr_blocks": true, "mpol": true,
}

// tmpfsOptions joins Docker's defaults and the given options; of options that
// exclude each other the last one wins.
func tmpfsOptions(given []string) ([]string, error) {
	all := append([]string{"noexec", "nosuid", "nodev", "rprivate"}, given...)
	seen := map[string]bool{}
	var merged []string
	for _, option := range slices.Backward(all) {
		if option == "" || option == "defaults" {
			continue
		}
		key, isFlag := tmpfsFlags[option]
		if !isFlag {
			name, _, hasValue := strings.Cut(option, "=")
			if !hasValue || !tmpfsData[name] {
				return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid tmpfs option %q", name))
			}
			key = name + "="
		}
		if !seen[key] {
			seen[key] = true
			merged = append(merged, option)
		}
	}
	slices.Reverse(merged)
	return merged, nil
}

// setRootPropagation makes the container's root propagate mounts as far as the
// bind m needs, and refuses a bind whose source does not propagate them.
func setRootPropagation(spec *specs.Spec, m specs.Mount) error {
	if m.Type != "bind" {
		return nil
	}
	root := &spec.Linux.RootfsPropagation
	for _, option := range m.Options {
		switch option {
		case "shared", "rshared":
			if at, optional, err := sourceMount(m.Source); err != nil {
				return err
			} else if !strings.Contains(optional, "shared:") {
				return errdefs.ErrInvalidArgument.WithMessage(
					fmt.Sprintf("path %s is mounted on %s but it is not a shared mount", m.Source, at))
			}
			*root = "shared"
		case "slave", "rslave":
			if at, optional, err := sourceMount(m.Source); err != nil {
				return err
			} else if !strings.Contains(optional, "shared:") && !strings.Contains(optional, "master:") {
				return errdefs.ErrInvalidArgument.WithMessage(
					fmt.Sprintf("path %s is mounted on %s but it is not a shared or slave mount", m.Source, at))
			}
			if *root != "shared" {
				*root = "rslave"
			}
		}
	}
	return nil
}

// sourceMount returns the mount that path is on, and its propagation fields.
func sourceMount(path string) (at, optional string, err error) {
	path, err = filepath.EvalSymlinks(path)
	if err != nil {
		return "", "", fmt.Errorf("finding the mount of a bind's source: %w", err)
	}
	parents, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return "", "", fmt.Errorf("finding the mount of a bind's source: %w", err)
	}
	for _, m := range parents {
		if len(m.Mountpoint) >= len(at) { // of several at one place the last is on top
			at, optional = m.Mountpoint, m.Optional
		}
	}
	return at, optional, nil
}
