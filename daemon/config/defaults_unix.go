//go:build !windows

package config

const (
	defaultConfigFile = "/etc/slipway/daemon.json"
	defaultDataRoot   = "/var/lib/slipway"
	defaultExecRoot   = "/run/slipway"
	defaultPidFile    = "/run/slipway/slipwayd.pid"
	defaultHost       = "unix:///run/slipway/slipway.sock"
	defaultCertDir    = "/etc/slipway"
	defaultShmSize    = 64 << 20
)
