package shim

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/contrib/apparmor"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	unconfined             = "unconfined"
	builtinProfile         = "builtin"
	defaultAppArmorProfile = "docker-default"
	appArmorProfiles       = "/sys/kernel/security/apparmor/profiles"
)

// security is what HostConfig.SecurityOpt says.
type security struct {
	noNewPrivileges bool
	appArmor        string // profile name; empty: the default
	seccomp         string // "", unconfined, builtinProfile, or a profile as JSON
	writableCgroups *bool
}

// parseSecurity reads the values of --security-opt. SELinux labels are accepted
// and, as with Docker where SELinux support is off, have no effect.
func parseSecurity(options []string) (security, error) {
	var s security
	for _, option := range options {
		if err := s.set(option); err != nil {
			return security{}, err
		}
	}
	return s, nil
}

func (s *security) set(option string) error {
	isTrue := true
	switch option {
	case "no-new-privileges":
		s.noNewPrivileges = true
		return nil
	case "writable-cgroups":
		s.writableCgroups = &isTrue
		return nil
	case "disable":
		return nil
	}
	key, value, ok := strings.Cut(option, "=")
	if !ok {
		// The separator of Docker 1.10 and before, which Docker still accepts.
		key, value, ok = strings.Cut(option, ":")
	}
	if !ok {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid --security-opt 1: %q", option))
	}
	invalid := errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid --security-opt 2: %q", option))
	switch key {
	case "label":
	case "apparmor":
		s.appArmor = value
	case "seccomp":
		s.seccomp = value
	case "no-new-privileges":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return invalid
		}
		s.noNewPrivileges = on
	case "writable-cgroups":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return invalid
		}
		s.writableCgroups = &on
	default:
		return invalid
	}
	return nil
}

// setSeccomp adds the system call filter. The capabilities of spec must be set
// before: the default profile's rules depend on them.
func (f *facts) setSeccomp(spec *specs.Spec, profile string, privileged bool) (err error) {
	switch {
	case profile == unconfined, privileged && profile == "":
		return nil
	case !f.seccomp:
		if profile != "" && profile != builtinProfile {
			return errdefs.ErrInvalidArgument.WithMessage("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
		}
		return nil // Validate has warned
	case profile == "", profile == builtinProfile:
		spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(spec)
	default:
		spec.Linux.Seccomp, err = seccomp.LoadProfile(profile, spec)
	}
	if err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return nil
}

// appArmorEnabled reports whether the kernel enforces AppArmor profiles.
func appArmorEnabled() bool {
	return strings.HasPrefix(readLine("/sys/module/apparmor/parameters/enabled"), "Y") && exists(appArmorProfiles)
}

// appArmorProfile returns the profile to run under, or "" where the kernel has
// no AppArmor. Docker's default profile is loaded if it is not: package updates
// are known to unload profiles that are not in /etc.
func (f *facts) appArmorProfile(host *mobycontainer.HostConfig, wanted string) (string, error) {
	switch {
	case !f.appArmor:
		return "", nil
	case wanted != "" && wanted != defaultAppArmorProfile:
		return wanted, nil
	case wanted == "" && host.Privileged:
		return unconfined, nil
	}
	loaded, err := appArmorLoaded(defaultAppArmorProfile)
	if err != nil {
		return "", err
	}
	if !loaded {
		if err := apparmor.LoadDefaultProfile(defaultAppArmorProfile); err != nil {
			return "", fmt.Errorf("AppArmor enabled on system but the %s profile could not be loaded: %w", defaultAppArmorProfile, err)
		}
	}
	return defaultAppArmorProfile, nil
}

func appArmorLoaded(profile string) (bool, error) {
	list, err := os.ReadFile(appArmorProfiles)
	if errors.Is(err, os.ErrPermission) {
		return false, nil // a confined daemon: the load below says what is wrong
	}
	if err != nil {
		return false, fmt.Errorf("listing the AppArmor profiles: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		if strings.HasPrefix(line, profile+" (") {
			return true, nil
		}
	}
	return false, nil
}
