package api

import (
	"net"
	"sync"
	"time"

	"slipway/internal/pipe"
)

// hangupInterval is how long a client may be gone before its streams end.
const hangupInterval = 100 * time.Millisecond

// watchHangup calls gone when the client has closed its end of a named pipe, which
// reading cannot tell from closing only its sending half, and closes done when it
// watches no more. Windows has no event for it, so it looks from time to time. A
// client on TCP or TLS that is gone shows only when something is sent to it. The
// returned function ends the watch.
func watchHangup(conn net.Conn, gone func(), done chan<- struct{}) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(hangupInterval)
		defer tick.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-tick.C:
				if pipe.HungUp(conn) {
					gone()
					return
				}
			}
		}
	}()
	return sync.OnceFunc(func() { close(stopped) })
}
