package job

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/windows"
)

// Suspender stops all processes of a job, and lets them go on. It is safe for
// concurrent use. Two suspenders of one job add up: the processes go on when
// both have let them.
type Suspender struct {
	job  *object
	owns bool

	mu      sync.Mutex
	stopped map[uint32]windows.Handle
}

// OpenSuspender returns a suspender of the job of that name (see [Name]). It has
// to be closed.
func OpenSuspender(name string) (*Suspender, error) {
	job, err := openObject(name)
	if err != nil {
		return nil, err
	}
	return &Suspender{job: job, owns: true}, nil
}

// Suspend returns when no process of the job runs. If that is not so before ctx ends, or
// something fails, it lets all go on. Suspending twice is as once.
//
// There is no freezer for jobs: each process is suspended by itself, and the list is looked
// at until it has nobody new, as a process may make another before its turn comes.
func (s *Suspender) Suspend(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == nil {
		s.stopped = map[uint32]windows.Handle{}
	}
	for {
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), s.resume())
		}
		news, err := s.round()
		if err != nil {
			return errors.Join(err, s.resume())
		}
		if !news {
			return nil
		}
	}
}

// round suspends the processes that it has not seen, and reports whether there were any.
func (s *Suspender) round() (news bool, err error) {
	pids, err := s.job.pids()
	if err != nil {
		return false, err
	}
	for _, pid := range pids {
		if _, ok := s.stopped[pid]; ok {
			continue
		}
		stopped, err := s.suspend(pid)
		if err != nil {
			return false, err
		}
		news = news || stopped
	}
	return news, nil
}

// suspend suspends one process. One that has ended meanwhile is left out. The handle stays
// open, so that its id is not another's.
func (s *Suspender) suspend(pid uint32) (stopped bool, err error) {
	handle, err := windows.OpenProcess(processSuspendAndResume, false, pid)
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening process %d: %w", pid, err)
	}
	err = ntCall(procNtSuspendProcess, uintptr(handle))
	if event, waitErr := windows.WaitForSingleObject(handle, 0); waitErr == nil && event == windows.WAIT_OBJECT_0 {
		return false, windows.CloseHandle(handle)
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("suspending process %d: %w", pid, err), windows.CloseHandle(handle))
	}
	s.stopped[pid] = handle
	return true, nil
}

// Resume lets the processes go on that Suspend stopped. It is no error if there are none.
func (s *Suspender) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resume()
}

func (s *Suspender) resume() error {
	var all error
	for pid, handle := range s.stopped {
		err := ntCall(procNtResumeProcess, uintptr(handle))
		if event, waitErr := windows.WaitForSingleObject(handle, 0); err != nil && (waitErr != nil || event != windows.WAIT_OBJECT_0) {
			all = errors.Join(all, fmt.Errorf("resuming process %d: %w", pid, err))
		}
		all = errors.Join(all, windows.CloseHandle(handle))
	}
	s.stopped = nil
	return all
}

// Close lets the processes go on, and the job go.
func (s *Suspender) Close() error {
	err := s.Resume()
	if s.owns {
		err = errors.Join(err, s.job.close())
	}
	return err
}
