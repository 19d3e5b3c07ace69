package job

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"
)

// The tests of this file were never run: they need what Wine has not (docs/windows.md, tier E). They have to run
// by the system's account, as the service does.

func TestKernelRefusesMemory(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoLimits)
	c := start(t, func(cfg *Config) { cfg.Limits.Memory = 256 << 20 })
	p, out := run(t, c, program(c, "allocate", "1000"))
	// 2 is how a Go program ends that gets no memory; the guard would give 137.
	if code := wait(t, p); code != 2 {
		t.Errorf("exit code %d: %s", code, out)
	}
	if !c.OutOfMemory() {
		t.Error("it does not say why")
	}
}

func TestKernelRefusesProcesses(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoLimits)
	const limit = 5
	c := start(t, func(cfg *Config) { cfg.Limits.Processes = limit })
	process, _ := run(t, c, program(c, "fork"))
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if pids, err := c.PIDs(); err != nil || len(pids) > limit {
			t.Fatalf("%d processes, %v", len(pids), err)
		}
	}
	if process.hasEnded() {
		t.Error("the container was ended")
	}
}

func TestKernelLimitsCPU(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoRates)
	used := func(rate uint32) time.Duration {
		c := start(t, func(cfg *Config) { cfg.Limits.CPURate = rate })
		run(t, c, program(c, "spin"))
		time.Sleep(time.Second)
		before, err := c.Stats()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		after, err := c.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return after.UserTime + after.KernelTime - before.UserTime - before.KernelTime
	}
	if free, limited := used(0), used(100); limited > free/2 {
		t.Errorf("a program that spins uses %v in 4 s, and with 1 %% of the processors %v", free, limited)
	}
}

func TestKernelLimitsNetwork(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoRates)
	received := make(chan int64, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		received <- n
	}))
	defer server.Close()
	c := start(t, func(cfg *Config) { cfg.Limits.NetworkRate = 1 << 20 })
	begun := time.Now()
	p, out := run(t, c, program(c, "send", server.URL, strconv.Itoa(10<<20)))
	if code := wait(t, p); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if took := time.Since(begun); <-received != 10<<20 || took < 5*time.Second {
		t.Errorf("10 MiB at 1 MiB/s took %v", took)
	}
}

func TestPriorityIsTheProcesses(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoLimits)
	c := start(t, func(cfg *Config) { cfg.Limits.Priority = priorities["idle"] })
	p, _ := run(t, c, program(c, "sleep"))
	class, _, _ := procGetPriorityClass.Call(uintptr(p.handle))
	if uint32(class) != priorities["idle"] {
		t.Errorf("class %#x", class)
	}
}

func TestTimesAreCounted(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoAccounting)
	c := start(t, nil)
	run(t, c, program(c, "spin"))
	await(t, "time", func() bool {
		s, err := c.Stats()
		return err == nil && s.UserTime > 100*time.Millisecond
	})
}

// TestConsoleHostIsInTheJob lists whose job the console hosts are in that a container brings about: that of its first
// process's console, and that of a console which a program makes for itself.
func TestConsoleHostIsInTheJob(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoConsole)
	c := start(t, nil)
	_, out := run(t, c, program(c, "console"))
	await(t, "a console of its own", func() bool { return strings.Contains(out.String(), "made") })
	pids, err := c.PIDs()
	if err != nil {
		t.Fatal(err)
	}
	hosts := 0
	for _, pid := range pids {
		if isConsoleHost(pid) {
			hosts++
		}
	}
	if hosts == 0 {
		t.Errorf("the console's host is not in the job: %v", pids)
	}
}

// TestFilesOfOthers holds that a container cannot read or write what another has, nor the engine's own files.
func TestFilesOfOthers(t *testing.T) {
	for _, identity := range []Identity{Account, AppContainer} {
		t.Run(string(identity), func(t *testing.T) {
			if identity == Account {
				testutil.NeedsRealWindows(t, testutil.WineNoDACLs)
			}
			testutil.NeedsRealWindows(t, testutil.WineNoAppContainer)
			mine := start(t, func(cfg *Config) { cfg.Identity = identity })
			theirs := start(t, func(cfg *Config) { cfg.Identity = identity })
			for dir, allowed := range map[string]bool{mine.cfg.Root: true, theirs.cfg.Root: false, t.TempDir(): false} {
				file := filepath.Join(dir, "secret")
				if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
				p, out := run(t, mine, program(mine, "open", file))
				if code := wait(t, p); (code == 0) != allowed {
					t.Errorf("%s: exit code %d, %s", file, code, out)
				}
				mine = start(t, func(cfg *Config) { cfg.Identity = identity })
			}
		})
	}
}

func TestIntegrityIsMedium(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoIntegrity)
	c := start(t, nil)
	// A system file that administrators may write.
	p, out := run(t, c, program(c, "open", filepath.Join(os.Getenv("SystemRoot"), "slipway-test")))
	if code := wait(t, p); code == 0 {
		t.Errorf("it wrote where only administrators may: %s", out)
		if err := os.Remove(filepath.Join(os.Getenv("SystemRoot"), "slipway-test")); err != nil {
			t.Error(err)
		}
	}
}

// TestLinkOutOfTheRoot has a link in the container where its working directory is to be made.
func TestLinkOutOfTheRoot(t *testing.T) {
	testutil.NeedsRealWindows(t, testutil.WineNoLinks)
	c := start(t, nil)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(c.cfg.Root, "link")); err != nil {
		t.Fatal(err)
	}
	p := program(c, "exit", "0")
	p.Dir = `C:\link\made`
	if _, err := c.Create(p); err == nil {
		t.Error("the working directory was made through the link")
	}
	if _, err := os.Stat(filepath.Join(outside, "made")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("outside: %v", err)
	}
}
