package shim

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/sys/signal"
)

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// validateProcess checks what is the same on every system: stop signal, environment
// and health check.
func validateProcess(cfg *mobycontainer.Config) error {
	if cfg.StopSignal != "" {
		sig, err := signal.ParseSignal(cfg.StopSignal)
		if err != nil {
			return invalid("%s", err)
		}
		if sig < 1 || sig > MaxSignal {
			return invalid("invalid stop signal: %s", cfg.StopSignal)
		}
	}
	for _, entry := range cfg.Env {
		if name, _, _ := strings.Cut(entry, "="); name == "" {
			return invalid("invalid environment variable: %s", entry)
		}
		if strings.ContainsRune(entry, 0) {
			return invalid("invalid environment variable: %q contains a null byte", entry)
		}
	}
	return validateHealth(cfg.Healthcheck)
}

func validateHealth(check *mobycontainer.HealthConfig) error {
	if check == nil {
		return nil
	}
	if len(check.Test) > 0 {
		switch kind := check.Test[0]; {
		case kind == "NONE":
		case (kind == "CMD" || kind == "CMD-SHELL") && len(check.Test) > 1:
		default:
			return invalid("invalid Test in Healthcheck: %q: it begins with NONE, or with CMD or CMD-SHELL and a command", check.Test)
		}
	}
	const minimum = mobycontainer.MinimumDuration
	switch {
	case check.Interval != 0 && check.Interval < minimum:
		return invalid("Interval in Healthcheck cannot be less than %s", minimum)
	case check.Timeout != 0 && check.Timeout < minimum:
		return invalid("Timeout in Healthcheck cannot be less than %s", minimum)
	case check.Retries < 0:
		return invalid("Retries in Healthcheck cannot be negative")
	case check.StartPeriod != 0 && check.StartPeriod < minimum:
		return invalid("StartPeriod in Healthcheck cannot be less than %s", minimum)
	case check.StartInterval != 0 && check.StartInterval < minimum:
		return invalid("StartInterval in Healthcheck cannot be less than %s", minimum)
	}
	return nil
}

// validateCommon checks what is the same on every system: restart policy, names of
// other hosts, ports and annotations.
func validateCommon(host *mobycontainer.HostConfig) error {
	if host.AutoRemove && !host.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	if err := mobycontainer.ValidateRestartPolicy(host.RestartPolicy); err != nil {
		return invalid("%s", err)
	}
	for _, entry := range host.ExtraHosts {
		if err := validateExtraHost(entry); err != nil {
			return err
		}
	}
	for port, bindings := range host.PortBindings {
		if !port.IsValid() || port.Num() == 0 {
			return invalid("invalid port specification: %q", port.String())
		}
		if proto := port.Proto(); proto != mobynetwork.TCP && proto != mobynetwork.UDP {
			return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("publishing port %s: protocol %s is not supported yet", port, proto))
		}
		for _, binding := range bindings {
			if binding.HostIP.Unmap().Is6() && !binding.HostIP.IsUnspecified() {
				return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("publishing port %s on %s: IPv6 is not supported yet", port, binding.HostIP))
			}
			if binding.HostPort == "" {
				continue
			}
			if _, err := mobynetwork.ParsePortRange(binding.HostPort); err != nil {
				return invalid("invalid port specification: %q", binding.HostPort)
			}
		}
	}
	for key := range host.Annotations {
		if key == "" {
			return invalid("invalid Annotations: the empty string is not permitted as an annotation key")
		}
	}
	return nil
}

func validateExtraHost(entry string) error {
	name, address, ok := strings.Cut(entry, ":")
	if !ok || name == "" {
		return invalid("bad format for add-host: %q", entry)
	}
	if address == "host-gateway" {
		return nil
	}
	if _, err := netip.ParseAddr(strings.Trim(address, "[]")); err != nil {
		return invalid("invalid IP address in add-host: %q", address)
	}
	return nil
}

// What other packages have; "" is the default.
var (
	logDrivers    = []string{"", "json-file", "none"}
	volumeDrivers = []string{"", "local"}
)
