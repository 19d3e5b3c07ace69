package service

import (
	"sync"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runtime-spec/specs-go"

	"slipway/shim/job"
)

// process is the container's first process or an exec.
type process struct {
	id                    string // of an exec; empty for the first
	spec                  *specs.Process
	stdin, stdout, stderr string

	ended chan struct{} // closed when how is valid

	mu      sync.Mutex
	running *job.Process // nil until made
	streams *streams
	started bool
	how     exit
}

func newProcess(id string, spec *specs.Process, stdin, stdout, stderr string) *process {
	return &process{id: id, spec: spec, stdin: stdin, stdout: stdout, stderr: stderr, ended: make(chan struct{})}
}

// finish says how the process has ended.
func (p *process) finish(how exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.how = how
	close(p.ended)
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// pid is the process's id, or 0 before it is made.
func (p *process) pid() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0
	}
	return p.running.PID
}

func (p *process) hasStarted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started
}

// currentStreams are the process's streams, or nil before it is made.
func (p *process) currentStreams() *streams {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams
}

// status is the process's state, and how it ended.
func (p *process) status(paused bool) (tasktypes.Status, exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.hasEnded():
		return tasktypes.Status_STOPPED, p.how
	case !p.started:
		return tasktypes.Status_CREATED, exit{}
	case paused:
		return tasktypes.Status_PAUSED, exit{}
	default:
		return tasktypes.Status_RUNNING, exit{}
	}
}

// exitOf is how a process of a container ended.
func exitOf(p *job.Process) exit {
	code, at := p.Exit()
	return exit{PID: p.PID, Status: code, At: at.In(time.UTC)}
}
