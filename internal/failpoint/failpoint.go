// Package failpoint lets the crash tests cut the daemon at a named line.
//
// A failpoint is a call of [Hit] with a literal name, placed before and after
// every durable step. It does nothing, unless the environment variable
// SLIPWAY_FAILPOINT holds its name: then the process ends as by kill -9, so
// that no deferred clean-up runs. The crash tests read the names from the
// source, so a new one is tested without being listed anywhere.
package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Env is the environment variable that arms a failpoint: "name", or "name@n" to
// pass it n-1 times first.
const Env = "SLIPWAY_FAILPOINT"

type armed struct {
	name string
	left atomic.Int64
}

var current = sync.OnceValue(func() *armed { return parse(os.Getenv(Env)) })

func parse(value string) *armed {
	if value == "" {
		return nil
	}
	a := &armed{name: value}
	a.left.Store(1)
	if name, count, ok := strings.Cut(value, "@"); ok {
		if n, err := strconv.ParseInt(count, 10, 64); err == nil && n > 0 {
			a.name = name
			a.left.Store(n)
		}
	}
	return a
}

// Hit ends the process at once if the failpoint called name is armed. It is
// safe for concurrent use and costs one atomic load otherwise.
func Hit(name string) {
	a := current()
	if a == nil || a.name != name || a.left.Add(-1) > 0 {
		return
	}
	die()
}
