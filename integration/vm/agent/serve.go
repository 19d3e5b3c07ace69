package agent

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
)

// Serve runs what the other side asks for until the stream ends. env is the
// environment of all programs; a request's own is added to it. Serve returns
// when every program has ended: those that still ran are killed.
func Serve(stream io.ReadWriter, env []string) error {
	s := &server{out: newSender(stream), env: env, programs: map[int64]*program{}}
	defer s.wg.Wait()
	defer s.killAll()
	in := json.NewDecoder(stream)
	for {
		var m message
		if err := in.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		s.handle(m)
	}
}

type server struct {
	out *sender
	env []string
	wg  sync.WaitGroup

	// programs are those whose end was not told yet; only the reader uses the map
	// but for removals.
	mu       sync.Mutex
	programs map[int64]*program
}

type program struct {
	cmd   *exec.Cmd
	stdin *os.File
}

func (s *server) handle(m message) {
	if len(m.Argv) > 0 {
		s.start(m)
		return
	}
	s.mu.Lock()
	p := s.programs[m.ID]
	s.mu.Unlock()
	if p == nil {
		return // has ended meanwhile
	}
	if len(m.In) > 0 {
		// Fails when the program reads no more, which is its own business. A program
		// that does not read blocks the others: tests send it little.
		_, _ = p.stdin.Write(m.In)
	}
	if m.EOF {
		_ = p.stdin.Close() // was only written to
	}
	if m.Kill {
		_ = p.cmd.Process.Kill() // fails only if it has ended
	}
}

func (s *server) start(m message) {
	fail := func(err error) {
		exit := -1
		s.tell(message{ID: m.ID, Err: []byte(err.Error() + "\n"), Exit: &exit})
	}
	read, write, err := os.Pipe()
	if err != nil {
		fail(err)
		return
	}
	defer read.Close()
	cmd := exec.Command(m.Argv[0], m.Argv[1:]...) //nolint:noctx // killed by message, or when the stream ends
	cmd.Env = append(append(os.Environ(), s.env...), m.Env...)
	cmd.Stdin = read
	cmd.Stdout = writer(func(p []byte) { s.tell(message{ID: m.ID, Out: p}) })
	cmd.Stderr = writer(func(p []byte) { s.tell(message{ID: m.ID, Err: p}) })
	if err := cmd.Start(); err != nil {
		_ = write.Close() // nobody reads it
		fail(err)
		return
	}
	s.mu.Lock()
	s.programs[m.ID] = &program{cmd, write}
	s.mu.Unlock()
	s.wg.Go(func() {
		_ = cmd.Wait() // the exit code says it
		_ = write.Close()
		s.mu.Lock()
		delete(s.programs, m.ID)
		s.mu.Unlock()
		exit := cmd.ProcessState.ExitCode()
		s.tell(message{ID: m.ID, Exit: &exit})
	})
}

// tell sends to the other side. If that is gone, the reader sees it too.
func (s *server) tell(m message) { _ = s.out.send(m) }

func (s *server) killAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.programs {
		_ = p.cmd.Process.Kill() // fails only if it has ended
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}
