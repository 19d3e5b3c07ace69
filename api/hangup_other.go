//go:build !linux && !windows

package api

import "net"

// watchHangup does nothing here: a client that went away is noticed when
// something is sent to it.
func watchHangup(_ net.Conn, _ func(), done chan<- struct{}) (stop func()) {
	close(done)
	return func() {}
}
