// Package config is what the daemon is told at its start: the command line and
// the configuration file, under dockerd's own names where the meaning is the
// same, so that habits, unit files and a daemon.json carry over.
//
// A setting is given in one place. The same one on the command line and in the
// file is an error, as it is for dockerd: neither silently wins. So is a key
// that no setting has, and a value of the wrong type: each is one line that
// names it.
//
// The file is a JSON object:
//
//	{
//	  "hosts": ["unix:///run/slipway/slipway.sock"],
//	  "data-root": "/srv/slipway",
//	  "bip": "10.99.0.1/24",
//	  "default-address-pools": [{"base": "10.100.0.0/16", "size": 24}],
//	  "default-ulimits": {"nofile": {"Soft": 1024, "Hard": 65536}},
//	  "log-opts": {"max-size": "10m", "max-file": "3"},
//	  "storage-opts": ["pool.size=500G"]
//	}
package config

import (
	"net/netip"
	"time"

	"github.com/docker/go-units"
)

// Config is the whole configuration of a daemon, complete and checked.
type Config struct {
	Mode       Mode       // what the program is asked to do
	Paths      Paths      // where it keeps things
	Listen     Listen     // where its API is
	Log        Log        // its own log
	Network    Network    // the default bridge, address pools and resolvers
	Logging    Logging    // what containers log to, unless they say otherwise
	Defaults   Defaults   // what containers get, unless they say otherwise
	Pool       Pool       // layers and volumes on disk
	Registries Registries // how registries are reached
	Labels     []string   // the engine's own labels, "key=value", in order

	// ShutdownTimeout bounds an orderly shutdown of the daemon. Containers
	// are not part of it: they go on running. Negative means no bound.
	ShutdownTimeout time.Duration
}

// Mode is what the program is asked to do.
type Mode int

// The zero Mode is the ordinary one.
const (
	ModeServe    Mode = iota // run the daemon
	ModeValidate             // say whether the configuration is right, and end
	ModeVersion              // print the version, and end
	ModeHelp                 // print Usage, and end
)

// Paths are absolute paths of files and directories.
type Paths struct {
	DataRoot   string // durable state
	ExecRoot   string // state that a reboot ends
	PidFile    string // "" for none
	ConfigFile string // the file that was read, "" if there was none
}

// Listen says where the API is, and who may reach it.
type Listen struct {
	Hosts         []Address
	Group         string // owns unix sockets
	GroupExplicit bool   // the group was asked for, so that it must exist
	TLS           *TLS   // nil without TLS
	AllowPlainTCP bool   // TCP without TLS on loopback addresses
}

// TLS names the files of mutual TLS: a client without a certificate that CA
// signed is refused.
type TLS struct {
	CA, Cert, Key string
}

// Address is one place to listen at.
type Address struct {
	Scheme string // "unix", "tcp", "fd" or "npipe"
	Addr   string // a path, "host:port", or the name of a passed socket ("" for all)
}

// String is the address as the command line takes it.
func (a Address) String() string { return a.Scheme + "://" + a.Addr }

// Log is the daemon's own log, on standard error.
type Log struct {
	Level  string // "debug", "info", "warn", "error" or "fatal"
	Format string // "text" or "json"
}

// Network configures the default bridge and what networks share.
type Network struct {
	Bridge       string // the interface's name; made if there is none
	BIP          netip.Prefix
	FixedCIDR    netip.Prefix
	MTU          int // bytes; 0 to take that of the default route
	ICC          bool
	AddressPools []AddressPool
	DNS          []netip.Addr
	DNSOptions   []string
	DNSSearch    []string
}

// AddressPool is a range of addresses that networks without a subnet of their
// own are cut from.
type AddressPool struct {
	Base netip.Prefix
	Size int // bits of each network's prefix
}

// Logging is the log driver of containers that name none.
type Logging struct {
	Driver  string
	Options map[string]string
}

// Defaults are the properties of containers that do not set their own.
type Defaults struct {
	Ulimits      map[string]*units.Ulimit
	ShmSize      int64  // bytes
	CgroupParent string // "" for the engine's own
	// Identity is whose rights containers on Windows have, as the shim's request has it: "" for the safe
	// default.
	Identity string
}

// Pool is how layers and volumes are kept.
type Pool struct {
	Method string // "" to probe, or "reflink", "pool", "copy" to insist
	Size   int64  // bytes the pool file may grow to; 0 for the default
}

// Registries says how to reach registries.
type Registries struct {
	Insecure []string // "host[:port]" or a CIDR: no TLS, or no verification
}
