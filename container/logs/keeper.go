package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"slipway/container/logs/wire"
)

const (
	// unreachableTimeout bounds how long a request waits for a keeper that cannot be reached.
	unreachableTimeout = 30 * time.Second
	// retryDelay is the pause between attempts to reach a keeper.
	retryDelay = 10 * time.Millisecond
	// pingTimeout bounds the wait for a keeper's first answer.
	pingTimeout = 5 * time.Second
)

// Config says which log keeper to use.
type Config struct {
	ExecRoot string // has the keeper's socket and state
	BinDir   string // has slipway-logger
	Logger   *slog.Logger
}

// Registration is one run of a container.
type Registration struct {
	ID     string
	Run    string // tells this run from the container's others
	Stdout string // path of the FIFO
	Stderr string // path of the FIFO; empty with a terminal
	Log    LogConfig
}

// Status is the state of a registered container.
type Status = wire.Status

// Keeper is the connection to the log keeper. It is safe for concurrent use.
//
// If the keeper process dies, another is started and everything that was registered is registered
// again; requests and attachments meanwhile wait and go on.
type Keeper struct {
	cfg     Config
	process process
	stop    context.CancelCauseFunc
	watcher sync.WaitGroup

	mu   sync.Mutex
	up   chan struct{} // closed while a keeper runs and knows all runs
	runs map[string]*run
}

// run is a registered run.
type run struct {
	reg      Registration
	anchors  []anchor // keep the FIFOs' content while no keeper is there
	attached int
}

// Connect connects to the exec root's log keeper and starts it if none runs. Until Close it watches the
// keeper and replaces it when it dies.
func Connect(ctx context.Context, cfg Config) (*Keeper, error) {
	k := &Keeper{cfg: cfg, up: make(chan struct{}), runs: map[string]*run{}}
	conn, err := k.ensure(ctx)
	if err != nil {
		return nil, err
	}
	close(k.up)
	watchCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	k.stop = stop
	k.watcher.Go(func() { k.watch(watchCtx, conn) })
	return k, nil
}

// errClosed is why requests end after Close.
var errClosed = errors.New("log keeper connection closed")

// Close stops watching the keeper, which goes on keeping logs.
func (k *Keeper) Close() error {
	k.stop(errClosed)
	k.watcher.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, r := range k.runs {
		errs = append(errs, r.release())
	}
	return errors.Join(errs...)
}

// watch waits for the keeper's end and replaces it.
func (k *Keeper) watch(ctx context.Context, conn net.Conn) {
	for {
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		_, _ = io.Copy(io.Discard, conn)
		stop()
		_ = conn.Close()
		if ctx.Err() != nil {
			return
		}
		k.cfg.Logger.WarnContext(ctx, "the log keeper has ended, starting another")
		k.mu.Lock()
		k.up = make(chan struct{})
		k.mu.Unlock()
		if conn = k.replace(ctx); conn == nil {
			return
		}
		k.mu.Lock()
		close(k.up)
		k.mu.Unlock()
	}
}

// replace starts another keeper and tells it of everything registered. It returns nil when ctx ends.
func (k *Keeper) replace(ctx context.Context) net.Conn {
	for delay := retryDelay; ; delay = min(2*delay, time.Second) {
		conn, err := k.ensure(ctx)
		if err == nil {
			if err = k.registerAll(ctx); err == nil {
				return conn
			}
			err = errors.Join(err, conn.Close())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
			k.cfg.Logger.ErrorContext(ctx, "cannot replace the log keeper yet", slog.Any("error", err))
		}
	}
}

// registerAll fails only if the keeper cannot be reached.
func (k *Keeper) registerAll(ctx context.Context) error {
	k.mu.Lock()
	requests := make([]*wire.Request, 0, len(k.runs))
	for _, r := range k.runs {
		requests = append(requests, r.request(r.attached))
	}
	k.mu.Unlock()
	for _, req := range requests {
		reply, err := k.roundTrip(ctx, req)
		if err != nil {
			return err
		}
		if reply.Code != wire.CodeNone {
			k.cfg.Logger.ErrorContext(ctx, "the new log keeper refuses a container", slog.String("container", req.ID), slog.String("reason", reply.Error))
		}
	}
	return nil
}

func (r *run) request(expect int) *wire.Request {
	return &wire.Request{Version: wire.Version, Op: wire.OpRegister, ID: r.reg.ID, Register: &wire.Register{
		Run: r.reg.Run, Stdout: r.reg.Stdout, Stderr: r.reg.Stderr, Log: r.reg.Log, Expect: expect,
	}}
}

func (r *run) release() error {
	var errs []error
	for _, a := range r.anchors {
		errs = append(errs, a.close())
	}
	r.anchors = nil
	return errors.Join(errs...)
}

// ensure returns a connection that ends with the keeper, which it starts if there is none.
func (k *Keeper) ensure(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, unreachableTimeout, errors.New("log keeper does not answer"))
	defer cancel()
	for delay := time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
		conn, err := k.ping(ctx)
		if err == nil {
			return conn, nil
		}
		if err := k.process.ensure(k.cfg); err != nil {
			return nil, fmt.Errorf("start the log keeper: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(delay):
		}
	}
}

// ping asks for the keeper's version. A keeper of another version is asked to make room.
func (k *Keeper) ping(ctx context.Context) (net.Conn, error) {
	conn, reply, err := k.send(ctx, &wire.Request{Version: wire.Version, Op: wire.OpPing}, pingTimeout)
	if err != nil {
		return nil, err
	}
	if reply.Code == wire.CodeNone {
		return conn, nil
	}
	_ = conn.Close()
	if reply.Code == wire.CodeVersion {
		k.cfg.Logger.InfoContext(ctx, "replacing a log keeper of another version", slog.Int("version", reply.Version))
		conn, _, err := k.send(ctx, &wire.Request{Version: wire.Version, Op: wire.OpRetire}, pingTimeout)
		if err != nil {
			return nil, err
		}
		_ = conn.Close()
	}
	return nil, replyError(reply)
}

// send sends a request and returns its reply with the connection, which the caller closes.
func (k *Keeper) send(ctx context.Context, req *wire.Request, timeout time.Duration) (_ net.Conn, _ *wire.Reply, err error) {
	conn, err := wire.Dial(ctx, k.cfg.ExecRoot)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		// An ended context may have spoilt the connection's deadline.
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	if timeout > 0 {
		_ = conn.SetDeadline(time.Now().Add(timeout))
	}
	if err := wire.WriteLine(conn, req); err != nil {
		return nil, nil, err
	}
	var r io.Reader = conn
	if req.Op == wire.OpAttach {
		r = onlyLine{conn} // frames follow
	}
	var reply wire.Reply
	if err := wire.ReadLine(bufio.NewReader(r), &reply); err != nil {
		return nil, nil, err
	}
	if timeout > 0 {
		_ = conn.SetDeadline(time.Time{})
	}
	return conn, &reply, nil
}

// roundTrip sends a request to the keeper that runs now.
func (k *Keeper) roundTrip(ctx context.Context, req *wire.Request) (*wire.Reply, error) {
	conn, reply, err := k.send(ctx, req, 0)
	if err != nil {
		return nil, err
	}
	return reply, conn.Close()
}

// call sends a request to the keeper, or to the next if it dies meanwhile. All requests can be repeated.
func (k *Keeper) call(ctx context.Context, req *wire.Request) (reply *wire.Reply, err error) {
	err = k.persist(ctx, func() (err error) {
		reply, err = k.roundTrip(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, replyError(reply)
}

// persist repeats try, which talks to the keeper, while it fails to reach it.
func (k *Keeper) persist(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(unreachableTimeout)
	for {
		k.mu.Lock()
		up := k.up
		k.mu.Unlock()
		var err error
		select {
		case <-up:
			began := time.Now()
			if err = try(); err == nil {
				return nil
			}
			if time.Since(began) > time.Second {
				deadline = time.Now().Add(unreachableTimeout) // it was reached, and died
			}
		case <-ctx.Done():
		case <-time.After(time.Until(deadline)):
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("log keeper cannot be reached: %w", errors.Join(errdefs.ErrUnavailable, err))
		}
		time.Sleep(retryDelay)
	}
}

func replyError(reply *wire.Reply) error {
	switch reply.Code {
	case wire.CodeNone:
		return nil
	case wire.CodeNotFound:
		return errdefs.ErrNotFound.WithMessage("log keeper: " + reply.Error)
	case wire.CodeInvalid:
		return errdefs.ErrInvalidArgument.WithMessage("log keeper: " + reply.Error)
	case wire.CodeBusy:
		return errdefs.ErrFailedPrecondition.WithMessage("log keeper: " + reply.Error)
	default:
		return errors.New("log keeper: " + reply.Error)
	}
}

// Register makes the keeper read a run's FIFOs. It must return before the task is created: the shim
// waits for a reader. For a run that is registered already it does nothing; another run of the same
// container replaces the last.
func (k *Keeper) Register(ctx context.Context, reg Registration) error {
	r := &run{reg: reg}
	var err error
	if r.anchors, err = openAnchors(reg.Stdout, reg.Stderr); err != nil {
		return err
	}
	k.mu.Lock()
	old := k.runs[reg.ID]
	if old != nil && old.reg.Run == reg.Run {
		r.attached = old.attached
	}
	k.runs[reg.ID] = r
	k.mu.Unlock()
	if old != nil {
		err = old.release()
	}
	reply, callErr := k.call(ctx, r.request(0))
	if callErr != nil {
		k.forget(reg.ID, r)
		return errors.Join(callErr, err, r.release())
	}
	if reply.Status != nil && reply.Status.Ended {
		err = errors.Join(err, k.over(reg.ID, reg.Run))
	}
	return err
}

// forget removes r from the map, if it is still there, or whatever there is if r is nil.
func (k *Keeper) forget(id string, r *run) *run {
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.runs[id]
	if r == nil || old == r {
		delete(k.runs, id)
	}
	return old
}

// over gives up the FIFOs of a run whose output has ended.
func (k *Keeper) over(id, runName string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.runs[id]; r != nil && r.reg.Run == runName {
		return r.release()
	}
	return nil
}

// Finish says that the task has exited and returns when all its output is in the log. Bound it by ctx: a
// process that escaped the container can hold the output open for ever.
func (k *Keeper) Finish(ctx context.Context, id string) error {
	return k.end(ctx, &wire.Request{Version: wire.Version, Op: wire.OpFinish, ID: id})
}

// FinishNow is Finish, but output ends as soon as none is waiting, even if somebody holds it open.
func (k *Keeper) FinishNow(ctx context.Context, id string) error {
	return k.end(ctx, &wire.Request{Version: wire.Version, Op: wire.OpFinish, ID: id, Now: true})
}

// Wait returns when the output has ended by itself and all of it is in the log.
func (k *Keeper) Wait(ctx context.Context, id string) error {
	return k.end(ctx, &wire.Request{Version: wire.Version, Op: wire.OpWait, ID: id})
}

func (k *Keeper) end(ctx context.Context, req *wire.Request) error {
	reply, err := k.call(ctx, req)
	if err != nil || reply.Status == nil {
		return err
	}
	return k.over(req.ID, reply.Status.Run)
}

// Status tells the state of a registered container.
func (k *Keeper) Status(ctx context.Context, id string) (Status, error) {
	reply, err := k.call(ctx, &wire.Request{Version: wire.Version, Op: wire.OpStatus, ID: id})
	if err != nil {
		return Status{}, err
	}
	return *reply.Status, nil
}

// List tells the state of all registered containers, by id.
func (k *Keeper) List(ctx context.Context) ([]Status, error) {
	reply, err := k.call(ctx, &wire.Request{Version: wire.Version, Op: wire.OpList})
	if err != nil {
		return nil, err
	}
	return slices.Clip(reply.List), nil
}

// Unregister makes the keeper forget a container. Attached clients still get what was printed. It does
// nothing for one that is not registered.
func (k *Keeper) Unregister(ctx context.Context, id string) error {
	var err error
	if r := k.forget(id, nil); r != nil {
		err = r.release()
	}
	_, callErr := k.call(ctx, &wire.Request{Version: wire.Version, Op: wire.OpUnregister, ID: id})
	return errors.Join(callErr, err)
}

// Shutdown ends the keeper process, which is refused while containers are registered. The connection is
// of no use afterwards; it should be closed first, or it would start another keeper.
func Shutdown(ctx context.Context, execRoot string) error {
	k := &Keeper{cfg: Config{ExecRoot: execRoot}}
	reply, err := k.roundTrip(ctx, &wire.Request{Version: wire.Version, Op: wire.OpShutdown})
	if err != nil {
		return err
	}
	return replyError(reply)
}
