package service

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	forward "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/events/exchange"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/runtime"
	runtimev2 "github.com/containerd/containerd/v2/core/runtime/v2"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/windows"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"slipway/internal/pipe"
	"slipway/internal/relay"
	"slipway/shim/job"
)

const testNamespace = "test"

// daemon is containerd's own side: its manager of shims, its manager of tasks, and a server for events.
type daemon struct {
	ctx         context.Context //nolint:containedctx // of the whole test, with containerd's namespace
	root, state string
	meta        *metadata.DB
	store       containers.Store
	exchange    *exchange.Exchange
	manager     *runtimev2.ShimManager
	tasks       *runtimev2.TaskManager
	events      *eventLog
	address     string
}

// newDaemon starts one; its containers are checked to be gone at the end.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	dir := t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	meta := metadata.NewDB(db, nil, nil)
	ctx := namespaces.WithNamespace(context.Background(), testNamespace)
	if err := meta.Init(ctx); err != nil {
		t.Fatal(err)
	}
	d := &daemon{
		ctx: ctx, root: filepath.Join(dir, "root"), state: filepath.Join(dir, "state"),
		store: metadata.NewContainerStore(meta), events: &eventLog{}, address: `\\.\pipe\slipway-test-events-` + rand.Text(),
	}
	if err := errors.Join(os.Mkdir(d.root, 0o755), os.Mkdir(d.state, 0o755)); err != nil {
		t.Fatal(err)
	}
	d.meta = meta
	d.serveEvents(t)
	d.restart(t)
	return d
}

// restart makes new managers of the same state, as the next daemon does.
func (d *daemon) restart(t *testing.T) {
	t.Helper()
	var err error
	d.exchange = exchange.NewExchange()
	if d.manager, err = runtimev2.NewShimManager(&runtimev2.ManagerConfig{
		Store: d.store, SandboxStore: metadata.NewSandboxStore(d.meta), Events: d.exchange, TTRPCAddress: d.address,
	}); err != nil {
		t.Fatal(err)
	}
	if d.tasks, err = runtimev2.NewTaskManager(d.ctx, d.root, d.state, d.manager); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) serveEvents(t *testing.T) {
	t.Helper()
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	forward.RegisterTTRPCEventsService(server, d.events)
	listener, err := pipe.Listen(d.address, pipe.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(d.ctx, listener) }()
	t.Cleanup(func() { server.Close(); listener.Close(); <-served })
}

// eventLog keeps what the shims say.
type eventLog struct {
	mu     sync.Mutex
	topics []string
	all    []any
}

func (l *eventLog) Forward(_ context.Context, r *forward.ForwardRequest) (*emptypb.Empty, error) {
	event, err := typeurl.UnmarshalAny(r.Envelope.Event)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics, l.all = append(l.topics, r.Envelope.Topic), append(l.all, event)
	return &emptypb.Empty{}, nil
}

func (l *eventLog) await(t *testing.T, topics ...string) {
	t.Helper()
	var got []string
	await(t, "events "+strings.Join(topics, " "), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		got = slices.Clone(l.topics)
		return slices.Equal(got, topics) || len(got) > len(topics)
	})
	if !slices.Equal(got, topics) {
		t.Errorf("events %v, want %v", got, topics)
	}
}

// container is one that the test has made.
type container struct {
	runtime.Task
	id, root string
	out, err *keeper
}

// create makes a container that runs one of the test's programs.
func (d *daemon) create(t *testing.T, change func(*specs.Spec), stdin string, args ...string) (*container, error) {
	t.Helper()
	id := strings.ToLower(rand.Text())
	c := &container{id: id, root: t.TempDir(), out: newKeeper(t), err: newKeeper(t)}
	spec := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: c.root},
		Annotations: map[string]string{job.IdentityAnnotation: string(job.Own)},
		Process:     &specs.Process{Args: append([]string{os.Args[0], "program"}, args...), Cwd: `C:\`},
		Windows:     &specs.Windows{},
	}
	if change != nil {
		change(spec)
	}
	packed, err := typeurl.MarshalAny(spec)
	if err != nil {
		t.Fatal(err)
	}
	record := containers.Container{ID: id, Runtime: containers.RuntimeInfo{Name: os.Args[0]}, Spec: packed, Image: "none"}
	if _, err := d.store.Create(d.ctx, record); err != nil {
		t.Fatal(err)
	}
	c.Task, err = d.tasks.Create(d.ctx, id, runtime.CreateOpts{
		Spec: packed, Runtime: os.Args[0], IO: runtime.IO{Stdin: stdin, Stdout: c.out.path, Stderr: c.err.path},
	})
	return c, err
}

// start creates a container and starts it. At the test's end it must be gone without trace, or it is deleted.
func (d *daemon) start(t *testing.T, change func(*specs.Spec), args ...string) *container {
	t.Helper()
	c, err := d.create(t, change, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(d.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := d.manager.Get(d.ctx, c.id); err != nil {
			return
		}
		_ = c.Kill(d.ctx, 9, false)
		if _, err := c.Wait(d.ctx); err != nil {
			t.Error(err)
		}
		d.remove(t, c)
	})
	return c
}

// remove deletes the task and checks that the shim ends.
func (d *daemon) remove(t *testing.T, c *container) *runtime.Exit {
	t.Helper()
	shim := d.shimPID(t, c)
	exit, err := d.tasks.Delete(d.ctx, c.id)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "end of the shim", func() bool { return !alive(shim) })
	d.awaitNoBundle(t)
	return exit
}

// awaitNoBundle waits until no container has a bundle.
func (d *daemon) awaitNoBundle(t *testing.T) {
	t.Helper()
	await(t, "removal of the bundle", func() bool {
		entries, err := os.ReadDir(filepath.Join(d.state, testNamespace))
		return err == nil && len(entries) == 0
	})
}

// shimPID asks the shim for its process.
func (d *daemon) shimPID(t *testing.T, c *container) uint32 {
	t.Helper()
	instance, err := d.manager.Get(d.ctx, c.id)
	if err != nil {
		t.Fatal(err)
	}
	client, err := runtimev2.NewTaskClient(instance.Client(), taskVersion)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Connect(d.ctx, &task.ConnectRequest{ID: c.id})
	if err != nil {
		t.Fatal(err)
	}
	return answer.ShimPid
}

// kill ends the shim's process as a fault would.
func kill(t *testing.T, pid uint32) {
	t.Helper()
	process, err := os.FindProcess(int(pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// keeper takes one output as the log keeper does.
type keeper struct {
	path     string
	listener net.Listener

	mu    sync.Mutex
	bytes bytes.Buffer
	ended bool
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{path: `\\.\pipe\slipway-test-out-` + rand.Text()}
	var err error
	if k.listener, err = pipe.Listen(k.path, pipe.ListenConfig{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); k.receive() }()
	t.Cleanup(func() { k.listener.Close(); <-done })
	return k
}

func (k *keeper) receive() {
	conn, err := k.listener.Accept()
	if err != nil {
		return
	}
	receipts := relay.NewReceipts(conn, 0)
	defer receipts.Close()
	defer conn.Close()
	buf := make([]byte, 4096)
	for at := int64(0); ; {
		n, err := conn.Read(buf)
		k.mu.Lock()
		k.bytes.Write(buf[:n])
		k.ended = err != nil
		k.mu.Unlock()
		if err != nil {
			return
		}
		at += int64(n)
		receipts.Stored(at)
	}
}

func (k *keeper) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bytes.String()
}

func (k *keeper) hasEnded() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}

func unmarshal(event typeurl.Any, into any) error { return typeurl.UnmarshalTo(event, into) }

func execSpec(t *testing.T, args ...string) *anypb.Any {
	t.Helper()
	data, err := json.Marshal(&specs.Process{Args: append([]string{os.Args[0], "program"}, args...), Cwd: `C:\`})
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: data}
}

// listenInput is the engine's end of a standard input.
func listenInput(t *testing.T) (path string, accept func() io.WriteCloser) {
	t.Helper()
	path = `\\.\pipe\slipway-test-in-` + rand.Text()
	listener, err := pipe.Listen(path, pipe.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return path, func() io.WriteCloser {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s still not: %s", what)
		}
	}
}

func alive(pid uint32) bool {
	handle, err := windows.OpenProcess(windows.SYNCHRONIZE, false, pid)
	if err != nil {
		return false
	}
	defer windows.CloseHandle(handle) //nolint:errcheck // a handle that was only asked
	event, err := windows.WaitForSingleObject(handle, 0)
	return err != nil || event != windows.WAIT_OBJECT_0
}

func isConsoleHost(pid uint32) bool {
	handle, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return false
	}
	defer windows.CloseHandle(handle) //nolint:errcheck // a handle that was only asked
	name := make([]uint16, 1024)
	size := uint32(len(name))
	if err := windows.QueryFullProcessImageName(handle, 0, &name[0], &size); err != nil {
		return false
	}
	return strings.EqualFold(filepath.Base(windows.UTF16ToString(name)), "conhost.exe")
}
