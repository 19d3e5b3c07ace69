package container

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
)

// psFilters are the filters that `docker ps` knows.
var psFilters = map[string]func(*Manager, *filterEnv, *Record, string) (bool, error){
	"id": func(_ *Manager, _ *filterEnv, r *Record, v string) (bool, error) {
		return strings.HasPrefix(r.ID, v), nil
	},
	"name":    matchName,
	"label":   matchLabel,
	"status":  matchStatus,
	"exited":  matchExited,
	"health":  matchHealth,
	"volume":  matchVolume,
	"network": matchNetwork,
	"publish": matchPublish,
	"expose":  matchExpose,
	"ancestor": func(_ *Manager, e *filterEnv, r *Record, v string) (bool, error) {
		return e.ancestors[v][r.Image.ID], nil
	},
	"before": func(_ *Manager, e *filterEnv, r *Record, _ string) (bool, error) {
		return r.Created.Before(e.before), nil
	},
	"since": func(_ *Manager, e *filterEnv, r *Record, _ string) (bool, error) {
		return r.Created.After(e.since), nil
	},
	"is-task": func(_ *Manager, _ *filterEnv, _ *Record, v string) (bool, error) {
		return v == "false" || v == "0", nil
	},
	"isolation": func(_ *Manager, _ *filterEnv, _ *Record, v string) (bool, error) { return v == "default", nil },
}

// filterEnv is what filters refer to besides the record.
type filterEnv struct {
	before, since time.Time
	// ancestors are the images of containers that each value of the filter is, or
	// that were committed on it.
	ancestors map[string]map[string]bool
}

// List returns the containers that the options select, newest first. It takes
// no lock.
func (m *Manager) List(ctx context.Context, opts ListOptions) ([]mobycontainer.Summary, error) {
	env, err := m.checkFilters(ctx, opts.Filters)
	if err != nil {
		return nil, err
	}
	all := opts.All || opts.Limit > 0 || opts.Filters["status"] != nil || opts.Filters["exited"] != nil
	list := []mobycontainer.Summary{}
	known := measured{}
	for _, c := range m.all() {
		if opts.Limit > 0 && len(list) == opts.Limit {
			break
		}
		r := c.record.Load()
		if !all && !r.State.Running() && r.State.Status != mobycontainer.StateRestarting {
			continue
		}
		ok, err := m.matches(env, r, opts.Filters)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		summary := m.summary(r)
		if opts.Size {
			summary.SizeRw, summary.SizeRootFs, err = m.sizes(ctx, r, known)
			if err != nil && c.files.Err() != nil {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
		}
		list = append(list, summary)
	}
	return list, nil
}

func (m *Manager) checkFilters(ctx context.Context, filters map[string]map[string]bool) (*filterEnv, error) {
	env := &filterEnv{ancestors: map[string]map[string]bool{}}
	for name, values := range filters {
		if psFilters[name] == nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s'", name))
		}
		for value := range values {
			switch name {
			case "before", "since":
				c, err := m.find(value)
				if err != nil {
					return nil, err
				}
				created := c.record.Load().Created
				if name == "before" && (env.before.IsZero() || created.Before(env.before)) {
					env.before = created
				}
				if name == "since" && created.After(env.since) {
					env.since = created
				}
			case "status":
				if err := mobycontainer.ValidateContainerState(mobycontainer.ContainerState(value)); err != nil {
					return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter 'status=" + value + "'")
				}
			case "health":
				if err := mobycontainer.ValidateHealthStatus(mobycontainer.HealthStatus(value)); err != nil {
					return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter 'health=" + value + "'")
				}
			case "is-task":
				if _, err := strconv.ParseBool(value); err != nil {
					return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter 'is-task=" + value + "'")
				}
			case "ancestor":
				descendants, err := m.descendants(ctx, value)
				if err != nil {
					return nil, err
				}
				env.ancestors[value] = descendants
			case "exited":
				if _, err := strconv.Atoi(value); err != nil {
					return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter 'exited=" + value + "'")
				}
			}
		}
	}
	return env, nil
}

// descendants returns those images of containers that ref is, or that were
// committed on it. An unknown image has none, as in Docker.
func (m *Manager) descendants(ctx context.Context, ref string) (map[string]bool, error) {
	ancestor, err := m.cfg.Images.Get(ctx, ref)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, c := range m.all() {
		id := c.record.Load().Image.ID
		if _, ok := known[id]; ok {
			continue
		}
		at := digest.Digest(id)
		for at != "" && at != ancestor.ID {
			img, err := m.cfg.Images.Get(ctx, at.String())
			if errdefs.IsNotFound(err) {
				break // removed: what it was made of is not known any more
			}
			if err != nil {
				return nil, err
			}
			at = img.ParentID
		}
		known[id] = at == ancestor.ID
	}
	return known, nil
}

// matches tells whether a record satisfies every filter. One value of a filter
// is enough, except for labels, of which all count.
func (m *Manager) matches(env *filterEnv, r *Record, filters map[string]map[string]bool) (bool, error) {
	for name, values := range filters {
		match := psFilters[name]
		some, every := false, true
		for value := range values {
			ok, err := match(m, env, r, value)
			if err != nil {
				return false, err
			}
			some, every = some || ok, every && ok
		}
		if (name == "label" && !every) || (name != "label" && len(values) > 0 && !some) {
			return false, nil
		}
	}
	return true, nil
}

func matchName(_ *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	pattern, err := regexp.Compile(value)
	if err != nil {
		return r.Name == value, nil //nolint:nilerr // as in Docker, what is no pattern is a name
	}
	return pattern.MatchString("/"+r.Name) || pattern.MatchString(r.Name), nil
}

func matchLabel(_ *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	key, want, hasValue := strings.Cut(value, "=")
	got, ok := r.Config.Labels[key]
	return ok && (!hasValue || got == want), nil
}

func matchStatus(_ *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	return string(r.State.Status) == value, nil
}

func matchExited(_ *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	code, err := strconv.Atoi(value)
	return !r.State.Running() && !r.State.FinishedAt.IsZero() && r.State.ExitCode == code, err
}

func matchHealth(_ *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	status := mobycontainer.NoHealthcheck
	if r.State.Health != nil {
		status = r.State.Health.Status
	}
	return string(status) == value, nil
}

func matchVolume(_ *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	return slices.ContainsFunc(r.Mounts, func(mount Mount) bool {
		return mount.Name == value || mount.Destination == path.Clean(value)
	}), nil
}

func matchNetwork(m *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	for name, settings := range m.networks(r) {
		if name == value || (settings.NetworkID != "" && strings.HasPrefix(settings.NetworkID, value)) {
			return true, nil
		}
	}
	return false, nil
}

func matchPublish(m *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	return matchPort(value, func(p mobynetwork.Port) bool {
		return len(m.ports(r)[p]) > 0
	})
}

func matchExpose(_ *Manager, _ *filterEnv, r *Record, value string) (bool, error) {
	return matchPort(value, func(p mobynetwork.Port) bool {
		_, ok := r.Config.ExposedPorts[p]
		return ok
	})
}

func matchPort(value string, has func(mobynetwork.Port) bool) (bool, error) {
	ports, err := mobynetwork.ParsePortRange(value)
	if err != nil {
		return false, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	for p := range ports.All() {
		if has(p) {
			return true, nil
		}
	}
	return false, nil
}

// summary is a container's line in `docker ps`.
func (m *Manager) summary(r *Record) mobycontainer.Summary {
	s := mobycontainer.Summary{
		ID: r.ID, Names: []string{"/" + r.Name}, Image: r.Config.Image, ImageID: r.Image.ID,
		Command: command(r), Created: r.Created.Unix(), Labels: r.Config.Labels,
		State: r.State.Status, Status: humanStatus(r, time.Now()), Ports: m.portSummary(r),
		NetworkSettings: &mobycontainer.NetworkSettingsSummary{Networks: m.networks(r)},
		Mounts:          mountPoints(r.Mounts),
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.HostConfig.NetworkMode = string(r.HostConfig.NetworkMode)
	s.HostConfig.Annotations = r.HostConfig.Annotations
	s.Health = &mobycontainer.HealthSummary{Status: mobycontainer.NoHealthcheck}
	if h := r.State.Health; h != nil {
		s.Health = &mobycontainer.HealthSummary{Status: h.Status, FailingStreak: h.FailingStreak}
	}
	return s
}

func command(r *Record) string {
	args := arguments(r.Config)
	for i, arg := range args {
		if strings.Contains(arg, " ") && i > 0 {
			args[i] = "'" + arg + "'"
		}
	}
	return strings.Join(args, " ")
}

// humanStatus is the STATUS column, in Docker's words.
func humanStatus(r *Record, now time.Time) string {
	s := r.State
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch s.Status {
	case mobycontainer.StatePaused:
		return fmt.Sprintf("Up %s (Paused)", since(s.StartedAt))
	case mobycontainer.StateRunning:
		if s.Health == nil {
			return "Up " + since(s.StartedAt)
		}
		health := string(s.Health.Status)
		if s.Health.Status == mobycontainer.Starting {
			health = "health: starting"
		}
		return fmt.Sprintf("Up %s (%s)", since(s.StartedAt), health)
	case mobycontainer.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	case mobycontainer.StateRemoving:
		return "Removal In Progress"
	case mobycontainer.StateDead:
		return "Dead"
	case mobycontainer.StateCreated:
		return "Created"
	default:
	}
	if s.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, since(s.FinishedAt))
}

func (m *Manager) portSummary(r *Record) []mobycontainer.PortSummary {
	list := []mobycontainer.PortSummary{}
	if !r.State.Running() {
		return list
	}
	for port, bindings := range m.ports(r) {
		if len(bindings) == 0 {
			list = append(list, mobycontainer.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
		for _, b := range bindings {
			public, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil {
				continue
			}
			list = append(list, mobycontainer.PortSummary{IP: b.HostIP, PrivatePort: port.Num(), PublicPort: uint16(public), Type: string(port.Proto())})
		}
	}
	slices.SortFunc(list, func(a, b mobycontainer.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.PublicPort, b.PublicPort), a.IP.Compare(b.IP), cmp.Compare(a.Type, b.Type))
	})
	return list
}
