package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"slipway/state"

	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
)

func TestRestartPolicy(t *testing.T) {
	m := &Manager{background: t.Context()}
	start := time.Now()
	for name, tc := range map[string]struct {
		policy  mobycontainer.RestartPolicy
		code    int
		count   int
		stopped bool
		restart bool
	}{
		"no":                      {policy: mobycontainer.RestartPolicy{Name: "no"}, code: 1},
		"always":                  {policy: mobycontainer.RestartPolicy{Name: "always"}, restart: true},
		"always, stopped":         {policy: mobycontainer.RestartPolicy{Name: "always"}, stopped: true},
		"unless-stopped":          {policy: mobycontainer.RestartPolicy{Name: "unless-stopped"}, restart: true},
		"on-failure, success":     {policy: mobycontainer.RestartPolicy{Name: "on-failure"}},
		"on-failure, failure":     {policy: mobycontainer.RestartPolicy{Name: "on-failure"}, code: 3, restart: true},
		"on-failure, last try":    {policy: mobycontainer.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3}, code: 3, count: 2, restart: true},
		"on-failure, out of them": {policy: mobycontainer.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3}, code: 3, count: 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainer(&Record{
				ID: "x", RestartCount: tc.count, State: State{Stopped: tc.stopped, StartedAt: start},
				HostConfig: &mobycontainer.HostConfig{RestartPolicy: tc.policy},
			}, nil)
			if got := m.policy(c, tc.code, start); got.restart != tc.restart {
				t.Errorf("restart = %v, want %v", got.restart, tc.restart)
			}
		})
	}
}

func TestRestartBackoff(t *testing.T) {
	m := &Manager{background: t.Context()}
	start := time.Now()
	c := newContainer(&Record{
		ID: "x", State: State{StartedAt: start},
		HostConfig: &mobycontainer.HostConfig{RestartPolicy: mobycontainer.RestartPolicy{Name: "always"}},
	}, nil)
	var delays []time.Duration
	for range 12 {
		delays = append(delays, m.policy(c, 1, start.Add(time.Second)).delay)
	}
	if delays[0] != firstRestartDelay || delays[1] != 2*firstRestartDelay || delays[11] != longestRestartDelay {
		t.Errorf("delays = %v", delays)
	}
	if got := m.policy(c, 1, start.Add(stableAfter)).delay; got != firstRestartDelay {
		t.Errorf("after a long run: %v", got)
	}
}

func TestStartFailureCode(t *testing.T) {
	for text, want := range map[string]int{
		`exec: "x": executable file not found in $PATH`:           notFound,
		`exec: "/x": stat /x: no such file or directory`:          notFound,
		`exec: "/etc": permission denied`:                         notExecutable,
		`exec /script: exec format error`:                         notExecutable,
		`unable to apply cgroup configuration: something strange`: otherFailure,
	} {
		if got := startFailureCode(errors.New(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

func TestHumanStatus(t *testing.T) {
	now := time.Now()
	ago := now.Add(-2 * time.Minute)
	for want, s := range map[string]State{
		"Created":                             {Status: mobycontainer.StateCreated},
		"Up 2 minutes":                        {Status: mobycontainer.StateRunning, StartedAt: ago},
		"Up 2 minutes (Paused)":               {Status: mobycontainer.StatePaused, StartedAt: ago},
		"Up 2 minutes (health: starting)":     {Status: mobycontainer.StateRunning, StartedAt: ago, Health: &mobycontainer.Health{Status: mobycontainer.Starting}},
		"Up 2 minutes (healthy)":              {Status: mobycontainer.StateRunning, StartedAt: ago, Health: &mobycontainer.Health{Status: mobycontainer.Healthy}},
		"Exited (3) 2 minutes ago":            {Status: mobycontainer.StateExited, ExitCode: 3, FinishedAt: ago},
		"Restarting (1) 2 minutes ago":        {Status: mobycontainer.StateRestarting, ExitCode: 1, FinishedAt: ago},
		"Removal In Progress":                 {Status: mobycontainer.StateRemoving},
		"Dead":                                {Status: mobycontainer.StateDead},
		"Exited (137) Less than a second ago": {Status: mobycontainer.StateExited, ExitCode: 137, FinishedAt: now},
	} {
		if got := humanStatus(&Record{State: s}, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestKeepExits(t *testing.T) {
	dir := t.TempDir()
	s, err := state.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for id, content := range map[string]string{
		"ended": `{"Timestamp":"2026-01-02T03:04:05Z","Pid":7,"Status":42}`,
		"torn":  `{"Timestamp":"2026-`,
	} {
		if err := os.MkdirAll(filepath.Join(dir, "tasks", id), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tasks", id, "exit.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := KeepExits(s, filepath.Join(dir, "tasks")); err != nil {
		t.Fatal(err)
	}
	bucket, err := state.NewBucket[keptExit](s, "exits")
	if err != nil {
		t.Fatal(err)
	}
	all, err := bucket.All()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]keptExit{"ended": {Code: 42, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	if err := KeepExits(s, filepath.Join(dir, "none")); err != nil {
		t.Errorf("after a reboot: %v", err)
	}
}

func TestDropMountPoints(t *testing.T) {
	upper := t.TempDir()
	if err := os.Mkdir(filepath.Join(upper, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"hosts": "", "hostname": "own", "passwd": ""} {
		if err := os.WriteFile(filepath.Join(upper, "etc", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := dropMountPoints(upper); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(upper, "etc"))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{"hostname", "passwd"}
	if runtime.GOOS == "windows" { // nothing is mounted there
		want = []string{"hostname", "hosts", "passwd"}
	}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Error(diff)
	}
}

func TestWaitConditions(t *testing.T) {
	m := &Manager{background: t.Context(), containers: map[string]*container{}}
	c := newContainer(&Record{ID: "x", State: State{Status: mobycontainer.StateRunning}, Config: &mobycontainer.Config{}}, nil)
	m.containers["x"] = c
	running, err := m.Wait(t.Context(), "x", mobycontainer.WaitConditionNotRunning)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := m.Wait(t.Context(), "x", mobycontainer.WaitConditionRemoved)
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	left, err := m.Wait(gone, "x", mobycontainer.WaitConditionNextExit)
	if err != nil {
		t.Fatal(err)
	}
	cancel(errors.New("the client went away"))
	if _, ok := <-left; ok {
		t.Error("a waiter that left got an answer")
	}
	select {
	case r := <-running:
		t.Fatalf("an answer before the end: %v", r)
	default:
	}
	c.updateVolatile(func(r *Record) { r.State.Status, r.State.ExitCode = mobycontainer.StateExited, 7 })
	c.finish(7)
	if r := <-running; r.StatusCode != 7 {
		t.Errorf("exit code %d", r.StatusCode)
	}
	now, err := m.Wait(t.Context(), "x", "")
	if err != nil {
		t.Fatal(err)
	}
	if r := <-now; r.StatusCode != 7 {
		t.Errorf("of one that has ended: %d", r.StatusCode)
	}
	close(c.removed)
	if r := <-removed; r.StatusCode != 7 {
		t.Errorf("at removal: %d", r.StatusCode)
	}
	if _, err := m.Wait(t.Context(), "x", "someday"); err == nil {
		t.Error("an unknown condition was taken")
	}
}

func TestStartsWithDaemon(t *testing.T) {
	onFailure := mobycontainer.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}
	for name, tc := range map[string]struct {
		policy mobycontainer.RestartPolicy
		state  State
		count  int
		want   bool
	}{
		"no":                      {policy: mobycontainer.RestartPolicy{Name: "no"}, state: State{ExitCode: 1}},
		"always, stopped":         {policy: mobycontainer.RestartPolicy{Name: "always"}, state: State{Stopped: true}, want: true},
		"unless-stopped":          {policy: mobycontainer.RestartPolicy{Name: "unless-stopped"}, want: true},
		"unless-stopped, stopped": {policy: mobycontainer.RestartPolicy{Name: "unless-stopped"}, state: State{Stopped: true}},
		"on-failure":              {policy: onFailure, state: State{ExitCode: 1}, count: 1, want: true},
		"on-failure, success":     {policy: onFailure},
		"on-failure, out of them": {policy: onFailure, state: State{ExitCode: 1}, count: 2},
	} {
		tc.state.Status = mobycontainer.StateExited
		c := newContainer(&Record{ID: "x", RestartCount: tc.count, State: tc.state, HostConfig: &mobycontainer.HostConfig{RestartPolicy: tc.policy}}, nil)
		if got := new(Manager).startsWithDaemon(c); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
