package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"slipway/container/logs/wire"
	"slipway/internal/keylock"
)

// requestTimeout bounds how long a client may take to send its request.
const requestTimeout = 10 * time.Second

// ErrRunning reports that another keeper serves the exec root.
var ErrRunning = errors.New("a log keeper runs already")

// Config says where a keeper works.
type Config struct {
	ExecRoot string
	Logger   *slog.Logger
}

// Server is a log keeper.
type Server struct {
	root     string
	logger   *slog.Logger
	lock     *os.File // flock'ed for as long as the keeper runs
	listener net.Listener
	ids      *keylock.Locker
	requests sync.WaitGroup

	mu         sync.Mutex
	containers map[string]*container
	conns      map[net.Conn]struct{}
	retired    chan struct{} // closed to stop
}

// New takes the exec root's lock and listens for requests. It fails with ErrRunning if another keeper
// does.
func New(cfg Config) (*Server, error) {
	lock, err := lockPID(filepath.Join(cfg.ExecRoot, "logger.pid"))
	if err != nil {
		return nil, err
	}
	listener, err := wire.Listen(cfg.ExecRoot)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Server{
		root: cfg.ExecRoot, logger: cfg.Logger, lock: lock, listener: listener,
		ids:        keylock.New(),
		containers: map[string]*container{},
		conns:      map[net.Conn]struct{}{},
		retired:    make(chan struct{}),
	}, nil
}

// writePID makes f, the locked file, hold this process's number.
func writePID(f *os.File) error {
	pid := strconv.Itoa(os.Getpid()) + "\n"
	_, err := f.WriteAt([]byte(pid), 0)
	return errors.Join(err, f.Truncate(int64(len(pid))))
}

// Serve answers requests until ctx ends or a client retires the keeper. Then it stops reading and
// returns; what is in the FIFOs stays there.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.retire)
	defer stop()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			select {
			case <-s.retired:
				return s.shutdown()
			default:
			}
			if passing(err) {
				time.Sleep(retryDelay)
				continue
			}
			return errors.Join(err, s.shutdown())
		}
		s.mu.Lock()
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.requests.Go(func() {
			s.handle(conn)
			_ = conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

func (s *Server) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.retired:
		return
	default:
	}
	close(s.retired)
	_ = s.listener.Close()
}

func (s *Server) shutdown() error {
	s.retire()
	// Before the clients are sent away: they come back to the next keeper for the
	// output that they have not got, and what is read or ends while none is there
	// is not kept for anybody.
	for _, c := range s.all() {
		c.halt()
	}
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.requests.Wait()
	var errs []error
	for _, c := range s.all() {
		errs = append(errs, c.stop(true))
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// failure is an error with the code that the client is told.
type failure struct {
	code wire.Code
	text string
}

func (f *failure) Error() string { return f.text }

func (s *Server) handle(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	var req wire.Request
	if err := wire.ReadLine(bufio.NewReader(conn), &req); err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	reply := wire.Reply{Version: wire.Version, PID: os.Getpid()}
	switch {
	case req.Op == wire.OpRetire:
		s.answer(conn, reply, nil)
		s.retire()
		return
	case req.Version != wire.Version:
		s.answer(conn, reply, &failure{wire.CodeVersion, fmt.Sprintf("log keeper speaks version %d of its protocol, not %d", wire.Version, req.Version)})
		return
	case req.Op == wire.OpAttach:
		s.attach(conn, &req, reply)
		return
	}
	err := s.do(conn, &req, &reply)
	s.answer(conn, reply, err)
	if err != nil {
		return
	}
	switch req.Op {
	case wire.OpShutdown:
		s.retire()
	case wire.OpPing:
		untilClosed(conn)
	default:
	}
}

// answer sends a reply. A client that is gone does not need it.
func (s *Server) answer(conn net.Conn, reply wire.Reply, err error) {
	if err != nil {
		reply.Code, reply.Error = wire.CodeInternal, err.Error()
		if f, ok := errors.AsType[*failure](err); ok {
			reply.Code = f.code
		}
	}
	_ = wire.WriteLine(conn, &reply)
}

func untilClosed(conn net.Conn) {
	var b [1]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			return
		}
	}
}

func (s *Server) do(conn net.Conn, req *wire.Request, reply *wire.Reply) error {
	switch req.Op {
	case wire.OpPing:
		return nil
	case wire.OpRegister:
		c, err := s.register(req)
		if err != nil {
			return err
		}
		st := c.status()
		reply.Status = &st
		return nil
	case wire.OpUnregister:
		return s.unregister(req.ID)
	case wire.OpList:
		// Not under the lock: a container whose disk hangs must not hold up the others.
		for _, c := range s.all() {
			reply.List = append(reply.List, c.status())
		}
		slices.SortFunc(reply.List, func(a, b wire.Status) int { return strings.Compare(a.ID, b.ID) })
		return nil
	case wire.OpShutdown:
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.containers); n > 0 {
			return &failure{wire.CodeBusy, fmt.Sprintf("%d containers are registered", n)}
		}
		return nil
	case wire.OpStatus, wire.OpFinish, wire.OpWait:
		c, err := s.get(req.ID)
		if err != nil {
			return err
		}
		s.await(conn, c, req)
		st := c.status()
		reply.Status = &st
		return nil
	default:
		return &failure{wire.CodeInvalid, fmt.Sprintf("unknown request %q", req.Op)}
	}
}

// await waits for a container's output to end, if the request asks for it, or for the client to leave.
func (s *Server) await(conn net.Conn, c *container, req *wire.Request) {
	if req.Op == wire.OpStatus {
		return
	}
	if req.Op == wire.OpFinish {
		c.finishNow(req.Now)
	}
	left := make(chan struct{})
	s.requests.Go(func() {
		untilClosed(conn)
		close(left)
	})
	select {
	case <-c.ended:
	case <-left:
	}
}

func (s *Server) all() []*container {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.containers))
}

func (s *Server) get(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.containers[id]
	if !ok {
		return nil, &failure{wire.CodeNotFound, "container " + id + " is not registered"}
	}
	return c, nil
}

var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

func (s *Server) register(req *wire.Request) (*container, error) {
	reg := req.Register
	if reg == nil || reg.Stdout == "" || reg.Run == "" || !validID.MatchString(req.ID) {
		return nil, &failure{wire.CodeInvalid, "register: id, run and stdout are needed"}
	}
	switch {
	case reg.Log.Driver == "json-file" && filepath.IsAbs(reg.Log.Path), reg.Log.Driver == "none":
	default:
		return nil, &failure{wire.CodeInvalid, fmt.Sprintf("register: unknown log driver %q", reg.Log.Driver)}
	}
	unlock, err := s.ids.Lock(context.Background(), req.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := s.get(req.ID)
	if err == nil {
		if old.run == reg.Run {
			return old, nil
		}
		if err := s.discard(old); err != nil {
			return nil, err
		}
	}
	c, err := newContainer(s.dir(req.ID), req.ID, reg, s.logger)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.containers[c.id] = c
	s.mu.Unlock()
	c.start()
	return c, nil
}

func (s *Server) dir(id string) string { return filepath.Join(s.root, "logger", id) }

func (s *Server) unregister(id string) error {
	if !validID.MatchString(id) {
		return &failure{wire.CodeInvalid, fmt.Sprintf("invalid container id %q", id)}
	}
	unlock, err := s.ids.Lock(context.Background(), id)
	if err != nil {
		return err
	}
	defer unlock()
	if c, err := s.get(id); err == nil {
		return s.discard(c)
	}
	return os.RemoveAll(s.dir(id))
}

// discard forgets a container and removes its files. Its clients get what they are still to get.
func (s *Server) discard(c *container) error {
	s.mu.Lock()
	delete(s.containers, c.id)
	s.mu.Unlock()
	err := c.letGo()
	s.requests.Go(func() {
		if err := c.stop(false); err != nil {
			c.logger.Error("cannot close a container's output", slog.Any("error", err))
		}
	})
	return errors.Join(err, os.RemoveAll(c.dir))
}

func (s *Server) attach(conn net.Conn, req *wire.Request, reply wire.Reply) {
	c, err := s.get(req.ID)
	if err == nil && req.Attach == nil {
		err = &failure{wire.CodeInvalid, "attach: no streams"}
	}
	if err != nil {
		s.answer(conn, reply, err)
		return
	}
	cl, from, err := c.attach(conn, req.Attach)
	if err != nil {
		s.answer(conn, reply, err)
		return
	}
	defer c.workers.Done()
	reply.Position = &from
	s.answer(conn, reply, nil)
	c.serve(cl)
}
