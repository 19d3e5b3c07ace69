//go:build !windows

package main

const (
	defaultHost     = "unix:///run/slipway/slipway.sock"
	defaultDataRoot = "/var/lib/slipway"
)

// nothingFound is what from-host says of an empty machine.
const nothingFound = "Nothing was found. PostgreSQL: apt-get install postgresql; busybox: apt-get install busybox-static"
