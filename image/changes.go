package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/network"
)

// ApplyChanges applies Dockerfile instructions, as docker commit and docker
// import take them with --change, to a configuration: CMD, ENTRYPOINT, ENV,
// EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR. On
// error, which wraps errdefs.ErrInvalidArgument, cfg is as it was.
func ApplyChanges(cfg *RunConfig, changes []string) error {
	c := &changer{cfg: cloneConfig(cfg)}
	for _, change := range changes {
		for line := range strings.Lines(strings.ReplaceAll(change, "\\\n", "")) {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			if err := c.apply(line); err != nil {
				return errdefs.ErrInvalidArgument.WithMessage(err.Error())
			}
		}
	}
	*cfg = c.cfg
	return nil
}

func cloneConfig(cfg *RunConfig) RunConfig {
	out := *cfg
	out.Env, out.Cmd, out.Entrypoint = slices.Clone(cfg.Env), slices.Clone(cfg.Cmd), slices.Clone(cfg.Entrypoint)
	out.OnBuild = slices.Clone(cfg.OnBuild)
	out.Labels, out.Volumes, out.ExposedPorts = maps.Clone(cfg.Labels), maps.Clone(cfg.Volumes), maps.Clone(cfg.ExposedPorts)
	return out
}

type changer struct {
	cfg    RunConfig
	cmdSet bool // by one of these changes
}

func (c *changer) apply(line string) error {
	name, rest, _ := cutSpace(line)
	instruction := strings.ToUpper(name)
	if rest == "" {
		if _, known := instructions[instruction]; known {
			return fmt.Errorf("%s requires at least one argument", instruction)
		}
	}
	apply, known := instructions[instruction]
	if !known {
		return fmt.Errorf("%s is not a valid change command", strings.ToLower(name))
	}
	return apply(c, rest)
}

var instructions = map[string]func(c *changer, rest string) error{
	"CMD":         (*changer).cmd,
	"ENTRYPOINT":  (*changer).entrypoint,
	"ENV":         (*changer).env,
	"EXPOSE":      (*changer).expose,
	"HEALTHCHECK": (*changer).healthcheck,
	"LABEL":       (*changer).label,
	"ONBUILD":     (*changer).onbuild,
	"STOPSIGNAL":  (*changer).stopSignal,
	"USER":        (*changer).user,
	"VOLUME":      (*changer).volume,
	"WORKDIR":     (*changer).workdir,
}

// command reads a JSON array, or a line for the shell.
func (c *changer) command(rest string) []string {
	if args, ok := jsonArgs(rest); ok {
		return args
	}
	shell := c.cfg.Shell
	if len(shell) == 0 {
		shell = defaultShell()
	}
	return append(slices.Clone(shell), rest)
}

func (c *changer) cmd(rest string) error {
	c.cfg.Cmd, c.cmdSet = c.command(rest), true
	return nil
}

// entrypoint also drops a command that was meant for another entrypoint.
func (c *changer) entrypoint(rest string) error {
	c.cfg.Entrypoint = c.command(rest)
	if !c.cmdSet {
		c.cfg.Cmd = nil
	}
	return nil
}

func (c *changer) env(rest string) error {
	pairs, err := c.pairs("ENV", rest)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		prefix := pair[0] + "="
		at := slices.IndexFunc(c.cfg.Env, func(have string) bool { return strings.HasPrefix(have, prefix) })
		if at < 0 {
			c.cfg.Env = append(c.cfg.Env, prefix+pair[1])
		} else {
			c.cfg.Env[at] = prefix + pair[1]
		}
	}
	return nil
}

func (c *changer) label(rest string) error {
	pairs, err := c.pairs("LABEL", rest)
	if err != nil {
		return err
	}
	if c.cfg.Labels == nil {
		c.cfg.Labels = map[string]string{}
	}
	for _, pair := range pairs {
		c.cfg.Labels[pair[0]] = pair[1]
	}
	return nil
}

func (c *changer) expose(rest string) error {
	words, err := c.words(rest)
	if err != nil {
		return err
	}
	for _, word := range words {
		ports, err := network.ParsePortRange(word)
		if err != nil {
			return fmt.Errorf("invalid containerPort: %s", word)
		}
		if c.cfg.ExposedPorts == nil {
			c.cfg.ExposedPorts = map[string]struct{}{}
		}
		for port := range ports.All() {
			c.cfg.ExposedPorts[port.String()] = struct{}{}
		}
	}
	return nil
}

func (c *changer) volume(rest string) error {
	paths, ok := jsonArgs(rest)
	if !ok {
		var err error
		if paths, err = c.words(rest); err != nil {
			return err
		}
	}
	if len(paths) == 0 {
		return errors.New("VOLUME requires at least one argument")
	}
	for _, volume := range paths {
		if volume = strings.TrimSpace(volume); volume == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		var err error
		if volume, err = volumePath(volume); err != nil {
			return err
		}
		if c.cfg.Volumes == nil {
			c.cfg.Volumes = map[string]struct{}{}
		}
		c.cfg.Volumes[volume] = struct{}{}
	}
	return nil
}

func (c *changer) user(rest string) (err error) {
	c.cfg.User, err = c.oneWord("USER", rest)
	return err
}

func (c *changer) stopSignal(rest string) (err error) {
	c.cfg.StopSignal, err = c.oneWord("STOPSIGNAL", rest)
	if err == nil && c.cfg.StopSignal == "" {
		err = errors.New("STOPSIGNAL requires exactly one argument")
	}
	return err
}

func (c *changer) workdir(rest string) error {
	dir, err := c.expand(rest)
	if err != nil {
		return err
	}
	if dir, err = workingDir(c.cfg.WorkingDir, dir); err != nil {
		return err
	}
	c.cfg.WorkingDir = dir
	return nil
}

func (c *changer) onbuild(rest string) error {
	name, _, _ := cutSpace(rest)
	switch strings.ToUpper(name) {
	case "ONBUILD":
		return errors.New("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed") //nolint:staticcheck // Docker's message
	case "FROM", "MAINTAINER":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(name))
	}
	c.cfg.OnBuild = append(c.cfg.OnBuild, rest)
	return nil
}

func (c *changer) healthcheck(rest string) error {
	check := &dockerspec.HealthcheckConfig{}
	for {
		word, after, _ := cutSpace(rest)
		if !strings.HasPrefix(word, "--") {
			break
		}
		if err := healthOption(check, word); err != nil {
			return err
		}
		rest = after
	}
	kind, args, _ := cutSpace(rest)
	switch strings.ToUpper(kind) {
	case "NONE":
		if args != "" {
			return errors.New("HEALTHCHECK NONE takes no arguments")
		}
		check = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}}
	case "CMD":
		if args == "" {
			return errors.New("Missing command after HEALTHCHECK CMD") //nolint:staticcheck // Docker's message
		}
		if exec, ok := jsonArgs(args); ok {
			check.Test = append([]string{"CMD"}, exec...)
		} else {
			check.Test = []string{"CMD-SHELL", args}
		}
	default:
		return fmt.Errorf("Unknown type %q in HEALTHCHECK (try CMD)", strings.ToUpper(kind)) //nolint:staticcheck // Docker's message
	}
	c.cfg.Healthcheck = check
	return nil
}

func healthOption(check *dockerspec.HealthcheckConfig, word string) error {
	name, value, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
	if name == "retries" {
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("--retries cannot be %q", value)
		}
		check.Retries = int(n)
		return nil
	}
	into := map[string]*time.Duration{
		"interval": &check.Interval, "timeout": &check.Timeout, "start-period": &check.StartPeriod, "start-interval": &check.StartInterval,
	}[name]
	if into == nil {
		return fmt.Errorf("unknown flag: %s", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return fmt.Errorf("--%s: %w", name, err)
	}
	if d < 0 || d > 0 && d < time.Millisecond {
		return fmt.Errorf("Interval %q cannot be less than %s", name, time.Millisecond) //nolint:staticcheck // Docker's message
	}
	*into = d
	return nil
}

// jsonArgs reads the exec form of an instruction.
func jsonArgs(s string) ([]string, bool) {
	if !strings.HasPrefix(strings.TrimSpace(s), "[") {
		return nil, false
	}
	var args []string
	if err := json.Unmarshal([]byte(s), &args); err != nil {
		return nil, false
	}
	return args, true
}

func cutSpace(s string) (before, after string, found bool) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimSpace(s[i:]), true
}
