package config

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
)

func newSettings() *settings {
	return &settings{
		cfg: Config{
			Paths:    Paths{DataRoot: defaultDataRoot, ExecRoot: defaultExecRoot, PidFile: defaultPidFile, ConfigFile: defaultConfigFile},
			Log:      Log{Level: "info", Format: "text"},
			Network:  Network{Bridge: "slipway0"},
			Logging:  Logging{Driver: "json-file"},
			Defaults: Defaults{ShmSize: defaultShmSize},
		},
		tls: TLS{
			CA:   filepath.Join(defaultCertDir, "ca.pem"),
			Cert: filepath.Join(defaultCertDir, "cert.pem"),
			Key:  filepath.Join(defaultCertDir, "key.pem"),
		},
		icc:             true,
		liveRestore:     true,
		shutdownSeconds: 15,
	}
}

// options are all settings, each bound to its place in s.
func (s *settings) options() []*option {
	return slices.Concat(s.programOptions(), s.listenOptions(), s.networkOptions(), s.containerOptions())
}

func (s *settings) programOptions() []*option {
	c := &s.cfg
	return []*option{
		toggle(&s.help, option{flag: "help", short: "h", usage: "Print usage"}),
		toggle(&s.version, option{flag: "version", short: "v", usage: "Print version information and quit"}),
		toggle(&s.validate, option{flag: "validate", usage: "Validate the configuration and exit"}),
		text(&c.Paths.ConfigFile, option{flag: "config-file", usage: "Daemon configuration file"}, notEmpty),
		text(&c.Paths.DataRoot, option{flag: "data-root", key: "data-root", usage: "Root directory of persistent state"}, notEmpty),
		text(&c.Paths.ExecRoot, option{flag: "exec-root", key: "exec-root", usage: "Root directory for execution state files"}, notEmpty),
		text(&c.Paths.PidFile, option{flag: "pidfile", short: "p", key: "pidfile", usage: "Path to use for daemon PID file"}, anything),
		toggle(&s.debug, option{flag: "debug", short: "D", key: "debug", usage: "Enable debug mode"}),
		text(&c.Log.Level, option{flag: "log-level", short: "l", key: "log-level", usage: `Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")`},
			oneOf("debug", "info", "warn", "error", "fatal")),
		text(&c.Log.Format, option{flag: "log-format", key: "log-format", usage: `Set the logging format ("text"|"json")`}, oneOf("text", "json")),
		list(&c.Labels, option{flag: "label", key: "labels", usage: "Set key=value labels to the daemon"}, keyValue),
		number(&s.shutdownSeconds, option{flag: "shutdown-timeout", key: "shutdown-timeout", usage: "Seconds an orderly shutdown may take, -1 for no limit"},
			-1, 24*60*60),
		toggle(&s.liveRestore, option{flag: "live-restore", key: "live-restore", usage: "Containers live on while the daemon is away (always true)"}),
		storageOption(&c.Pool),
	}
}

func (s *settings) listenOptions() []*option {
	l := &s.cfg.Listen
	return []*option{
		list(&s.hosts, option{flag: "host", short: "H", key: "hosts", usage: "Daemon socket(s) to connect to"}, anything),
		text(&l.Group, option{flag: "group", short: "G", key: "group", usage: `Group for the unix socket (default "slipway" if it exists)`}, notEmpty),
		toggle(&s.useTLS, option{flag: "tls", key: "tls", usage: "Use TLS; implied by --tlsverify, and not enough without it"}),
		toggle(&s.verify, option{flag: "tlsverify", key: "tlsverify", usage: "Use TLS and verify the remote"}),
		text(&s.tls.CA, option{flag: "tlscacert", key: "tlscacert", usage: "Trust certs signed only by this CA"}, notEmpty),
		text(&s.tls.Cert, option{flag: "tlscert", key: "tlscert", usage: "Path to TLS certificate file"}, notEmpty),
		text(&s.tls.Key, option{flag: "tlskey", key: "tlskey", usage: "Path to TLS key file"}, notEmpty),
		toggle(&l.AllowPlainTCP, option{flag: "allow-plain-tcp", key: "allow-plain-tcp", usage: "Allow TCP without TLS on loopback addresses"}),
		list(&s.cfg.Registries.Insecure, option{flag: "insecure-registry", key: "insecure-registries", usage: "Enable insecure registry communication"}, registryHost),
		notYet(option{flag: "registry-mirror", key: "registry-mirrors"}),
	}
}

func (s *settings) networkOptions() []*option {
	n := &s.cfg.Network
	return []*option{
		text(&n.Bridge, option{flag: "bridge", short: "b", key: "bridge", usage: "Name of the default network's bridge, made if there is none"}, interfaceName),
		scalar(&n.BIP, option{flag: "bip", key: "bip", arg: "cidr", usage: "IPv4 address and network of the bridge"}, bridgeAddress, prefixText),
		scalar(&n.FixedCIDR, option{flag: "fixed-cidr", key: "fixed-cidr", arg: "cidr", usage: "IPv4 subnet for fixed IPs"}, subnet, prefixText),
		number(&n.MTU, option{flag: "mtu", key: "mtu", usage: "Set the MTU of the bridge network, 0 to take it from the default route"}, 0, 65535),
		toggle(&s.icc, option{flag: "icc", key: "icc", usage: "Enable inter-container communication"}),
		poolOption(&n.AddressPools),
		list(&n.DNS, option{flag: "dns", key: "dns", usage: "DNS server to use"}, ipAddress),
		list(&n.DNSOptions, option{flag: "dns-opt", key: "dns-opts", usage: "DNS options to use"}, oneWord),
		list(&n.DNSSearch, option{flag: "dns-search", key: "dns-search", usage: "DNS search domains to use"}, oneWord),
	}
}

func (s *settings) containerOptions() []*option {
	c := &s.cfg
	return []*option{
		text(&c.Logging.Driver, option{flag: "log-driver", key: "log-driver", usage: `Default driver for container logs ("json-file"|"none")`}, oneOf("json-file", "none")),
		pairs(&c.Logging.Options, option{flag: "log-opt", key: "log-opts", usage: "Default log driver options for containers"}),
		ulimitOption(&c.Defaults.Ulimits),
		scalar(&c.Defaults.ShmSize, option{flag: "default-shm-size", key: "default-shm-size", arg: "bytes", usage: "Default shm size for containers"}, memorySize, byteText),
		text(&c.Defaults.CgroupParent, option{flag: "cgroup-parent", key: "cgroup-parent", usage: "Set parent cgroup for all containers"}, anything),
		text(&c.Defaults.Identity, option{flag: "container-identity", key: "container-identity", usage: `Whose rights containers on Windows have ("account"|"appcontainer"|"own")`}, oneOf("account", "appcontainer", "own")),
	}
}

// storageOption holds what dockerd leaves to its storage drivers.
func storageOption(p *Pool) *option {
	var given []string
	o := list(&given, option{flag: "storage-opt", key: "storage-opts", usage: `Storage options: "pool.size=SIZE", "pool.method=reflink|pool|copy"`},
		func(s string) (string, error) { return s, p.set(s) })
	return o
}

// poolOption is "base=10.10.0.0/16,size=24", an array of objects in the file.
func poolOption(p *[]AddressPool) *option {
	o := list(p, option{
		flag: "default-address-pool", key: "default-address-pools", arg: "pool-options",
		usage: "Default address pools for node specific local networks",
	}, addressPool)
	o.load = func(raw json.RawMessage) error {
		var entries []struct {
			Base *string `json:"base"`
			Size *int    `json:"size"`
		}
		if err := decodeStrict(raw, &entries); err != nil {
			return err
		}
		for _, e := range entries {
			if e.Base == nil || e.Size == nil {
				return errNeedBaseAndSize
			}
			pool, err := newAddressPool(*e.Base, *e.Size)
			if err != nil {
				return err
			}
			*p = append(*p, pool)
		}
		return nil
	}
	return o
}

// ulimitOption is "nofile=1024:2048", an object by name in the file.
func ulimitOption(p *map[string]*units.Ulimit) *option {
	put := func(u *units.Ulimit) {
		if *p == nil {
			*p = map[string]*units.Ulimit{}
		}
		(*p)[u.Name] = u
	}
	o := option{flag: "default-ulimit", key: "default-ulimits", arg: "ulimit", usage: "Default ulimits for containers"}
	o.set = func(s string) error {
		u, err := units.ParseUlimit(s)
		if err == nil {
			put(u)
		}
		return err
	}
	o.load = func(raw json.RawMessage) error {
		entries := map[string]struct {
			Name       string
			Soft, Hard *int64
		}{}
		if err := decodeStrict(raw, &entries); err != nil {
			return err
		}
		for name, e := range entries {
			u, err := newUlimit(name, e.Name, e.Soft, e.Hard)
			if err != nil {
				return err
			}
			put(u)
		}
		return nil
	}
	o.get = func() string {
		out := make([]string, 0, len(*p))
		for _, u := range *p {
			out = append(out, u.String())
		}
		slices.Sort(out)
		return "[" + strings.Join(out, ", ") + "]"
	}
	return &o
}
