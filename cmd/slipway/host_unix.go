//go:build !windows

package main

const (
	defaultHost     = "unix:///run/slipway/slipway.sock"
	defaultDataRoot = "/var/lib/slipway"
)
