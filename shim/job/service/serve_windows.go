package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerdshim "github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/ttrpc"

	"slipway/internal/cleanup"
	"slipway/internal/pipe"
)

const (
	// eventQueue is how many events can wait for containerd.
	eventQueue = 1024
	// goodbye is how long the last answers and events may take.
	goodbye = 5 * time.Second
)

// serve is the shim: it returns when its container is deleted.
func serve(ctx context.Context, call Invocation) (err error) {
	var undo cleanup.Stack
	logs, err := newLogWriter(logPipe(call.Namespace, call.ID))
	if err != nil {
		return err
	}
	undo.Add(func(context.Context) error { return logs.Close() })
	defer undo.Run(ctx, &err)
	level := slog.LevelInfo
	if call.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level})).With(slog.String("id", call.ID))
	publisher, err := newPublisher(ctx, log, call)
	if err != nil {
		return err
	}
	listener, err := pipe.Listen(call.Socket, pipe.ListenConfig{})
	if err != nil {
		return errors.Join(err, publisher.close())
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return errors.Join(err, publisher.close(), listener.Close())
	}
	over := make(chan struct{})
	t := &tasks{namespace: call.Namespace, id: call.ID, log: log, publish: publisher.publish, shutdown: sync.OnceFunc(func() { close(over) })}
	task.RegisterTTRPCTaskService(server, t)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	select {
	case err = <-served:
		if err == nil {
			err = errors.New("the server ended")
		}
		return errors.Join(fmt.Errorf("serving %s: %w", call.Socket, err), t.abandon(), publisher.close(), listener.Close())
	case <-over:
	}
	// The answer to the shutdown has to arrive, and the last events.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), goodbye, errors.New("took too long"))
	defer cancel()
	shutdownErr := server.Shutdown(ctx)
	abandonErr := t.abandon()
	return errors.Join(shutdownErr, abandonErr, publisher.close(), logs.Close())
}

// abandon ends the container if there still is one: the shim was told to end all the same.
func (t *tasks) abandon() error {
	t.mu.Lock()
	container := t.container
	t.container = nil
	t.mu.Unlock()
	var err error
	if container != nil {
		err = container.Close()
	}
	t.watchers.Wait()
	return err
}

// publisher sends events to containerd, in order.
type publisher struct {
	queue chan events.Event
	done  chan struct{}
	log   *slog.Logger
}

func newPublisher(ctx context.Context, log *slog.Logger, call Invocation) (*publisher, error) {
	if call.TTRPCAddress == "" {
		return nil, errors.New("containerd has told no address for events (TTRPC_ADDRESS)")
	}
	remote, err := containerdshim.NewPublisher(call.TTRPCAddress)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	p := &publisher{queue: make(chan events.Event, eventQueue), done: make(chan struct{}), log: log}
	ctx = namespaces.WithNamespace(context.WithoutCancel(ctx), call.Namespace)
	go func() {
		defer close(p.done)
		for event := range p.queue {
			// It tries again by itself for a while; who has missed events while he was away
			// asks for the state.
			if err := remote.Publish(ctx, runtime.GetTopic(event), event); err != nil {
				log.WarnContext(ctx, "publishing an event failed", slog.String("topic", runtime.GetTopic(event)), slog.Any("error", err))
			}
		}
		if err := remote.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			log.DebugContext(ctx, "closing the connection for events failed", slog.Any("error", err))
		}
	}()
	return p, nil
}

// publish does not wait. Events that nobody takes are dropped, as containerd's shims do.
func (p *publisher) publish(event events.Event) {
	select {
	case p.queue <- event:
	default:
		p.log.Error("too many events wait", slog.String("topic", runtime.GetTopic(event)))
	}
}

// close sends what waits.
func (p *publisher) close() error {
	close(p.queue)
	select {
	case <-p.done:
		return nil
	case <-time.After(goodbye):
		return errors.New("the last events were not taken")
	}
}
