package pipe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
	"unsafe"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// underWine reports whether this is Wine, whose ntdll says so.
var underWine = sync.OnceValue(func() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
})

var waitNamedPipe = windows.NewLazySystemDLL("kernel32.dll").NewProc("WaitNamedPipeW")

// primeAttempts bounds how often a pipe is made until its first client is us.
const primeAttempts = 200

// listenPrimed makes a pipe and is its first client. Where others dial all the time, as they do when a server was
// replaced, one of them may be faster: it is sent away, and the pipe made anew.
func listenPrimed(path string, config *winio.PipeConfig) (net.Listener, error) {
	for attempt := 1; ; attempt++ {
		listener, err := winio.ListenPipe(path, config)
		if err != nil {
			return nil, fmt.Errorf("listening on pipe %s: %w", path, err)
		}
		primed, err := prime(listener, path)
		if !errors.Is(err, windows.ERROR_PIPE_BUSY) || attempt == primeAttempts {
			return primed, err
		}
		time.Sleep(time.Duration(rand.IntN(5_000)) * time.Microsecond) //nolint:gosec // only not the same for all
	}
}

// exists reports whether there is a pipe of that name. Wine lets a second process
// create what has to be the first instance.
func exists(path string) bool {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return false
	}
	const milliseconds = 1
	found, _, err := waitNamedPipe.Call(uintptr(unsafe.Pointer(name)), milliseconds)
	return found != 0 || !errors.Is(err, windows.ERROR_FILE_NOT_FOUND)
}

// primed is a listener whose first, useless instance is taken.
type primed struct {
	net.Listener
	taken windows.Handle
	once  sync.Once
}

// prime opens path and keeps it open, for the listener's first client to be a real
// one.
func prime(listener net.Listener, path string) (net.Listener, error) {
	taken, err := takeFirst(path)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &primed{Listener: listener, taken: taken}, nil
}

// Prime does for the pipe path of a go-winio listener that was made elsewhere what
// [Listen] does for its own: under Wine, it takes the first instance, which would
// let the first client hang. It does nothing on Windows. release is called after
// the listener was closed.
func Prime(path string) (release func(), err error) {
	if !underWine() {
		return func() {}, nil
	}
	taken, err := takeFirst(path)
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { _ = windows.CloseHandle(taken) }), nil // of a handle that holds nothing
}

// takeFirst opens path. go-winio's first instance only holds the name: it is made
// with the right to synchronize and no other, and Windows leaves it disconnected.
// Wine offers it to the first client, whom nobody answers.
func takeFirst(path string) (windows.Handle, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	taken, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return 0, fmt.Errorf("opening pipe %s for Wine: %w", path, err)
	}
	return taken, nil
}

// Close closes the listener. Further calls do nothing.
func (p *primed) Close() error {
	err := p.Listener.Close()
	p.once.Do(func() { err = errors.Join(err, windows.CloseHandle(p.taken)) })
	return err
}
