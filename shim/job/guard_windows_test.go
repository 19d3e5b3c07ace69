package job

import (
	"testing"
	"time"
)

// TestForkWithoutEnd has a container that makes processes for ever. The kernel keeps it at its
// limit where it can; else the guard ends those beyond it, or the container.
func TestForkWithoutEnd(t *testing.T) {
	const limit = 5
	c := start(t, func(cfg *Config) { cfg.Limits.Processes = limit })
	process, _ := run(t, c, program(c, "fork"))
	most := 0
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		pids, err := c.PIDs()
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(pids))
		if process.hasEnded() {
			break
		}
	}
	// The guard comes after the fact; without it there are hundreds.
	if most > 10*limit {
		t.Errorf("%d processes at a time, with a limit of %d", most, limit)
	}
	if process.hasEnded() {
		if code := wait(t, process); code != ExitKilled {
			t.Errorf("exit code %d", code)
		}
		awaitEnd(t, c)
	}
}

// TestGuardEndsTheNewest has a container with more processes than it may, made slowly.
func TestGuardEndsTheNewest(t *testing.T) {
	c := start(t, func(cfg *Config) { cfg.Limits.Processes = 4 })
	process, out := run(t, c, program(c, "parent", "5", "stay"))
	await(t, "a child", func() bool { return out.len() > 0 })
	await(t, "no more than the limit", func() bool {
		time.Sleep(3 * GuardInterval)
		pids, err := c.PIDs()
		return err == nil && len(pids) <= 4
	})
	if process.hasEnded() {
		t.Error("the first process was ended")
	}
}

func TestGuardOfMemory(t *testing.T) {
	told := make(chan struct{}, 100)
	c := start(t, func(cfg *Config) {
		cfg.Limits.Memory = 128 << 20
		cfg.OnOutOfMemory = func() { told <- struct{}{} }
	})
	process, out := run(t, c, program(c, "allocate", "1000"))
	code := wait(t, process)
	// The kernel refuses the allocation where it can, by which a Go program ends; else the guard
	// ends the container.
	if code != 2 && code != ExitKilled {
		t.Errorf("exit code %d: %s", code, out)
	}
	awaitEnd(t, c)
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("nobody was told")
	}
	if !c.OutOfMemory() {
		t.Error("it does not say why")
	}
}

func TestUnlimitedMemoryIsNotGuarded(t *testing.T) {
	c := start(t, func(cfg *Config) { cfg.Limits.Memory = 1 << 30 })
	process, _ := run(t, c, program(c, "allocate", "100"))
	time.Sleep(2 * time.Second)
	select {
	case <-process.Exited():
		t.Error("ended within its limit")
	default:
	}
}
