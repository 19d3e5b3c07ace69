package service

import (
	"net"
	"sync"

	"slipway/internal/pipe"
)

// logWriter sends the shim's log to whoever is connected to its pipe: the daemon, as containerd
// has it on Windows. Lines that nobody reads are dropped, so that the shim never waits.
type logWriter struct {
	listener net.Listener

	mu   sync.Mutex
	conn net.Conn
	done chan struct{}
}

// logPipe is the name that containerd connects to.
func logPipe(namespace, id string) string {
	return `\\.\pipe\containerd-shim-` + namespace + "-" + id + "-log"
}

func newLogWriter(path string) (*logWriter, error) {
	listener, err := pipe.Listen(path, pipe.ListenConfig{})
	if err != nil {
		return nil, err
	}
	w := &logWriter{listener: listener, done: make(chan struct{})}
	go w.accept()
	return w, nil
}

// accept lets the newest reader have the log: it is the next daemon.
func (w *logWriter) accept() {
	defer close(w.done)
	for {
		conn, err := w.listener.Accept()
		w.replace(conn)
		if err != nil {
			return
		}
	}
}

func (w *logWriter) replace(conn net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
	}
	w.conn = conn
}

// Write sends p, if there is a reader that takes it at once.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return len(p), nil
	}
	err := w.conn.SetWriteDeadline(deadline(logPatience))
	if err == nil {
		_, err = w.conn.Write(p)
	}
	if err != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
	return len(p), nil
}

// Close ends the log.
func (w *logWriter) Close() error {
	err := w.listener.Close()
	<-w.done
	return err
}
