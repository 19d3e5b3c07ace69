package job

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// start returns a container with an empty root. Its end is checked to leave no process.
func start(t *testing.T, change func(*Config)) *Container {
	t.Helper()
	id := strings.ToLower(rand.Text())
	cfg := Config{
		ID: id, Name: Name("test", id), Root: t.TempDir(), Identity: Own,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		await(t, "end of the job", func() bool {
			job, err := openObject(cfg.Name)
			if err != nil {
				return errdefs.IsNotFound(err)
			}
			job.close()
			return false
		})
	})
	return c
}

// program returns one of the test's programs.
func program(c *Container, args ...string) Program {
	return Program{Args: append([]string{os.Args[0], "program"}, args...), Env: c.Environment(nil)}
}

// run starts a program in the container and returns it with what it writes.
func run(t *testing.T, c *Container, p Program) (*Process, *output) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.Stderr = write, write
	process, err := c.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	out := &output{}
	go func() { _, _ = io.Copy(out, read); read.Close() }()
	return process, out
}

// wait returns the exit code of the process.
func wait(t *testing.T, p *Process) uint32 {
	t.Helper()
	select {
	case <-p.Exited():
	case <-time.After(30 * time.Second):
		t.Fatalf("process %d has not ended after 30 s", p.PID)
	}
	code, at := p.Exit()
	if age := time.Since(at); age < 0 || age > time.Minute {
		t.Errorf("ended %v ago", age)
	}
	return code
}

func awaitEnd(t *testing.T, c *Container) {
	t.Helper()
	select {
	case <-c.Ended():
	case <-time.After(30 * time.Second):
		pids, err := c.PIDs()
		t.Fatalf("the container has not ended after 30 s: processes %v, %v", pids, err)
	}
}

// await waits until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s still not: %s", what)
		}
	}
}

// processes returns the ids of the container's processes without those of Windows' console
// hosts, which are in the job too.
func processes(t *testing.T, c *Container) []uint32 {
	t.Helper()
	pids, err := c.PIDs()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(pids, isConsoleHost)
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

// alive reports whether there is a process of that id that has not ended.
func alive(pid uint32) bool {
	handle, err := windows.OpenProcess(windows.SYNCHRONIZE, false, pid)
	if err != nil {
		return false
	}
	defer windows.CloseHandle(handle) //nolint:errcheck // a handle that was only asked
	event, err := windows.WaitForSingleObject(handle, 0)
	return err != nil || event != windows.WAIT_OBJECT_0
}

func TestExitCodes(t *testing.T) {
	for _, code := range []uint32{0, 1, 3, 255, 0xC0000005} {
		t.Run(strconv.Itoa(int(code)), func(t *testing.T) {
			c := start(t, nil)
			p, _ := run(t, c, program(c, "exit", strconv.Itoa(int(code))))
			if got := wait(t, p); got != code {
				t.Errorf("exit code %d, want %d", got, code)
			}
			awaitEnd(t, c)
		})
	}
}

func TestNothingRunsBeforeStart(t *testing.T) {
	c := start(t, nil)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	p := program(c, "args", "hello")
	p.Stdout = write
	process, err := c.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	pids, err := c.PIDs()
	if err != nil || len(pids) != 1 || pids[0] != process.PID {
		t.Errorf("processes %v, %v; want %d", pids, err, process.PID)
	}
	time.Sleep(300 * time.Millisecond)
	select {
	case <-process.Exited():
		t.Error("it ran")
	default:
	}
	if err := errors.Join(process.Start(), process.Start()); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(read)
	if err != nil || string(got) != "\"hello\"\n" {
		t.Errorf("%q, %v", got, err)
	}
	awaitEnd(t, c)
}

func TestArgumentsArriveAsTheyAre(t *testing.T) {
	c := start(t, nil)
	args := []string{"", "a b", `c:\dir\`, `with "quotes"`, `back\\slash\"`, "tab\there", "ä€𝄞", "%PATH%", `a\ b\`}
	p, out := run(t, c, program(c, append([]string{"args"}, args...)...))
	if code := wait(t, p); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	var want strings.Builder
	for _, arg := range args {
		fmt.Fprintf(&want, "%q\n", arg)
	}
	await(t, want.String(), func() bool { return out.String() == want.String() })
}

func TestEnvironmentLeadsIntoTheRoot(t *testing.T) {
	t.Setenv("SLIPWAY_SECRET", "of the engine")
	c := start(t, nil)
	root := c.cfg.Root
	p := program(c, "env")
	p.Env = c.Environment([]string{`DATA=%CONTAINER_ROOT%\data`, "ONE=1", "CONTAINER_ROOT=elsewhere"})
	p.Dir = `C:\work\here`
	process, out := run(t, c, p)
	if code := wait(t, process); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	await(t, "output", func() bool { return strings.Contains(out.String(), "CONTAINER_ROOT=") })
	for _, line := range []string{
		`dir ` + root + `\work\here <nil>`, "CONTAINER_ROOT=" + root, "DATA=" + root + `\data`, "ONE=1",
		"TEMP=" + root + `\Users\ContainerUser\AppData\Local\Temp`, "USERPROFILE=" + root + `\Users\ContainerUser`,
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
	if strings.Contains(out.String(), "SLIPWAY_SECRET") {
		t.Error("a variable of the engine came into the container")
	}
	if info, err := os.Stat(filepath.Join(root, `Users\ContainerUser\AppData\Local\Temp`)); err != nil || !info.IsDir() {
		t.Errorf("TEMP: %v", err)
	}
}

func TestInputEnds(t *testing.T) {
	c := start(t, nil)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := program(c, "cat")
	p.Stdin = read
	process, out := run(t, c, p)
	read.Close()
	if _, err := write.WriteString("some input "); err != nil {
		t.Fatal(err)
	}
	await(t, "echo", func() bool { return out.String() == "some input " })
	write.Close()
	if code := wait(t, process); code != 0 {
		t.Errorf("exit code %d", code)
	}
	await(t, "end of input", func() bool { return out.String() == "some input end of input" })
}

func TestNoInput(t *testing.T) {
	c := start(t, nil)
	process, out := run(t, c, program(c, "cat"))
	if code := wait(t, process); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestEndOfFirstEndsGrandchildren(t *testing.T) {
	c := start(t, nil)
	process, out := run(t, c, program(c, "parent", "3", "leave"))
	// All three have said who they are.
	if code := wait(t, process); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	awaitEnd(t, c)
	for line := range strings.FieldsSeq(out.String()) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatalf("output %q", out)
		}
		if alive(uint32(pid)) {
			t.Errorf("process %d lives on", pid)
		}
	}
	if _, err := c.Create(program(c, "exit", "0")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a program in the ended container: %v", err)
	}
}

func TestTerminateEndsAll(t *testing.T) {
	c := start(t, nil)
	process, out := run(t, c, program(c, "parent", "3", "stay"))
	await(t, "three children", func() bool { return len(strings.Fields(out.String())) == 3 })
	pids := processes(t, c)
	if len(pids) != 4 {
		t.Fatalf("processes %v, want 4", pids)
	}
	if err := c.Terminate(ExitKilled); err != nil {
		t.Fatal(err)
	}
	if code := wait(t, process); code != ExitKilled {
		t.Errorf("exit code %d", code)
	}
	awaitEnd(t, c)
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
}

func TestNothingBreaksAway(t *testing.T) {
	c := start(t, nil)
	process, out := run(t, c, program(c, "breakaway"))
	if code := wait(t, process); code != 5 {
		t.Errorf("exit code %d, want 5: access denied; %s", code, out)
	}
}

func TestExecSharesTheJob(t *testing.T) {
	c := start(t, nil)
	first, _ := run(t, c, program(c, "sleep"))
	second, _ := run(t, c, program(c, "exit", "7"))
	if code := wait(t, second); code != 7 {
		t.Errorf("exit code %d", code)
	}
	if err := c.Forget(second); err != nil {
		t.Error(err)
	}
	third, _ := run(t, c, program(c, "sleep"))
	if pids := processes(t, c); len(pids) != 2 {
		t.Errorf("processes %v; want %d and %d", pids, first.PID, third.PID)
	}
	if err := third.Kill(ExitKilled); err != nil {
		t.Error(err)
	}
	if code := wait(t, third); code != ExitKilled {
		t.Errorf("exit code %d", code)
	}
	select {
	case <-c.Ended():
		t.Error("the end of an exec was the container's")
	default:
	}
	if err := third.Kill(ExitKilled); err != nil {
		t.Errorf("killing what has ended: %v", err)
	}
}

func TestProgramIsNotThere(t *testing.T) {
	c := start(t, nil)
	for _, name := range []string{"no-such-program", `C:\no\such.exe`, `\no\such.exe`, `sub\dir.exe`, `D:relative`} {
		_, err := c.Create(Program{Args: []string{name}, Env: c.Environment(nil)})
		if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "executable file not found") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Create(Program{Env: c.Environment(nil)}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no program: %v", err)
	}
}

func TestProgramOfTheRootComesFirst(t *testing.T) {
	c := start(t, nil)
	root := c.cfg.Root
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "app", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "app", "bin", "tool.exe"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{`C:\app\bin\tool.exe`, `\app\bin\tool`, `app\bin\tool.exe`, `app/bin/tool`, `%CONTAINER_ROOT%\app\bin\tool.exe`, "tool", `c:\APP\..\app\bin\TOOL`} {
		p := Program{Args: []string{name, "program", "exit", "4"}, Env: c.Environment([]string{`PATH=C:\app\bin`})}
		if name == "tool" {
			p.Dir = `C:\elsewhere`
		}
		process, err := c.Create(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		if code := wait(t, process); code != 4 {
			t.Errorf("%s: exit code %d", name, code)
		}
		// It was the first process, so the container has ended.
		c = start(t, func(cfg *Config) { cfg.Root = root })
	}
}

func TestNoAdministrator(t *testing.T) {
	c := start(t, nil)
	process, out := run(t, c, program(c, "groups"))
	if code := wait(t, process); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestEnginesAccountNeedsConsent(t *testing.T) {
	token, err := ownToken()
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	if err := checkUser(token, false); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), IdentityAnnotation) {
		t.Errorf("the engine's own token: %v", err)
	}
	if err := checkUser(token, true); err != nil {
		t.Error(err)
	}
}

func TestNameIsNotShared(t *testing.T) {
	c := start(t, nil)
	cfg := c.cfg
	cfg.Root = t.TempDir()
	if _, err := New(t.Context(), cfg); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second container of the same job: %v", err)
	}
}

// output is what a program has written so far.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

func (o *output) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Len()
}

// TestIdentityThatIsNone holds that a container does not start with the engine's rights because the system gave
// no others: Wine takes new accounts and log-ons, and all are the one user's. On Windows there are others.
func TestIdentityThatIsNone(t *testing.T) {
	for _, identity := range []Identity{Account, AppContainer} {
		id := strings.ToLower(rand.Text())
		c, err := New(t.Context(), Config{ID: id, Name: Name("test", id), Root: t.TempDir(), Identity: identity, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = c.Close()
		}
		if (err == nil) == underWine() {
			t.Errorf("%s: %v", identity, err)
		}
		if job, err := openObject(Name("test", id)); !errdefs.IsNotFound(err) {
			t.Errorf("%s: its job is there: %v, %v", identity, job, err)
		}
		if err := RemoveIdentity(identity, id); err != nil {
			t.Errorf("%s: %v", identity, err)
		}
	}
}
