//go:build linux

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/integration/vm/agent"
	"slipway/internal/testutil"
)

// assetsEnv names the directory that script/test-vm has prepared.
const assetsEnv = "SLIPWAY_TEST_VM"

// postgresArchive is an image in that directory.
const postgresArchive = "postgres.tar"

// patience is how long a machine may take for one command: it is emulated, and
// others may use this one.
const patience = 5 * time.Minute

// assets are the files that all machines are made of.
type assets struct {
	kernel, initramfs, system string
}

var built struct {
	once sync.Once
	assets
	err error
}

// requireAssets skips the test outside of `make test-vm`.
func requireAssets(t *testing.T) assets {
	t.Helper()
	dir := os.Getenv(assetsEnv)
	if dir == "" {
		testutil.Skip(t, testutil.NeedsVM)
	}
	built.once.Do(func() { built.assets, built.err = buildAssets(dir) })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.assets
}

func buildAssets(dir string) (assets, error) {
	ctx := context.Background() // for all tests
	a := assets{initramfs: filepath.Join(dir, "initramfs"), system: filepath.Join(dir, "system.img")}
	debian, guest := filepath.Join(dir, "debian"), filepath.Join(dir, "guest")
	k, err := findKernel(debian)
	if err != nil {
		return a, err
	}
	a.kernel = k.image
	var initramfs bytes.Buffer
	if err := writeInitramfs(&initramfs, k, guest); err != nil {
		return a, err
	}
	if err := os.WriteFile(a.initramfs, initramfs.Bytes(), 0o600); err != nil {
		return a, err
	}
	extra := map[string]string{
		"/usr/sbin/init":                  guest,
		programsDir + "/integration.test": filepath.Join(dir, "integration.test"),
	}
	for n := range loadImages {
		file := filepath.Join(dir, filepath.Base(loadFile(n)))
		if err := writeLoadImage(file, n); err != nil {
			return a, err
		}
		extra[loadFile(n)] = file
	}
	return a, writeSystem(ctx, a.system, filepath.Dir(dir), debian, extra)
}

// loadImages is how many images there are in the machine to load.
const loadImages = 3

func loadImage(n int) string { return fmt.Sprintf("load-%d:latest", n) }
func loadFile(n int) string  { return fmt.Sprintf("/opt/images/load-%d.tar", n) }

// writeLoadImage makes one: busybox and a file that no other image has.
func writeLoadImage(file string, n int) error {
	busybox, err := testutil.Busybox()
	if err != nil {
		return err
	}
	content := strings.Repeat(fmt.Sprintf("image %d\n", n), 200_000)
	archive, err := busybox.With(loadImage(n), []testutil.File{{Path: "content", Content: content}}, nil).DockerArchive()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// machine is a running virtual machine.
type machine struct {
	*agent.Client

	dir    string // of its sockets and its console's output
	disk   *disk
	cmd    *exec.Cmd
	exited chan struct{}
	conn   net.Conn // of the agent

	serving bool       // set when the machine has connected to the disk
	served  chan error // what the disk's service ended with
}

// newDataDisk makes an empty disk for a machine's /var.
func newDataDisk(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "data.img")
	if err := makeExt4(t.Context(), file, 24<<30, ""); err != nil {
		t.Fatal(err)
	}
	return file
}

// boot starts a machine with a disk and waits until programs can be run in it.
// The seed decides what is lost when its power is cut. The caller cuts it at the
// end; after a failure of this test that is done by itself.
func boot(t *testing.T, file string, seed uint64) *machine {
	t.Helper()
	a := requireAssets(t)
	dir, err := os.MkdirTemp("", "slipway-vm-") //nolint:usetesting // the name of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{dir: dir, exited: make(chan struct{}), served: make(chan error, 1)}
	if m.disk, err = newDisk(file, seed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			m.cutPower(t)
		}
	})
	if err := m.start(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if code, _, stderr := m.run(t, "true"); code != 0 {
		t.Fatalf("the machine does not work: %s", stderr)
	}
	t.Logf("booted in %.1f s", time.Since(begin).Seconds())
	return m
}

func (m *machine) start(ctx context.Context, a assets) error {
	diskSocket, err := net.Listen("unix", filepath.Join(m.dir, "disk"))
	if err != nil {
		return err
	}
	defer diskSocket.Close()
	agentSocket, err := net.Listen("unix", filepath.Join(m.dir, "agent"))
	if err != nil {
		return err
	}
	defer agentSocket.Close()
	m.cmd = exec.Command("qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:"+m.consoleFile(),
		"-kernel", a.kernel, "-initrd", a.initramfs,
		"-append", "console=ttyS0 loglevel=4 panic=-1 security=apparmor apparmor=1",
		"-drive", "if=none,id=system,format=raw,readonly=on,file="+a.system,
		"-device", "virtio-blk-pci,drive=system",
		"-drive", "if=none,id=data,format=raw,cache=none,file.driver=nbd,file.server.type=unix,file.server.path="+diskSocket.Addr().String(),
		"-device", "virtio-blk-pci,drive=data",
		"-chardev", "socket,id=agent,path="+agentSocket.Addr().String(),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent",
	)
	var errs bytes.Buffer
	m.cmd.Stderr = &errs
	if err := m.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(m.exited)
		_ = m.cmd.Wait() // it is killed
		// Nobody else connects.
		_, _ = diskSocket.Close(), agentSocket.Close()
	}()
	diskConn, err := diskSocket.Accept()
	if err != nil {
		<-m.exited
		return fmt.Errorf("the machine did not start: %w: %s", err, &errs)
	}
	m.serving = true
	go func() {
		defer diskConn.Close()
		m.served <- m.disk.serve(diskConn)
	}()
	if m.conn, err = agentSocket.Accept(); err != nil {
		<-m.exited
		return fmt.Errorf("the machine did not start: %w: %s", err, &errs)
	}
	m.Client = agent.NewClient(m.conn)
	return ctx.Err()
}

func (m *machine) consoleFile() string { return filepath.Join(m.dir, "console") }

// console is the end of what the kernel printed.
func (m *machine) console() string {
	data, err := os.ReadFile(m.consoleFile())
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4000):])
}

// kill ends the machine between two of its instructions.
func (m *machine) kill() {
	_ = m.cmd.Process.Kill() // fails only if it has ended
}

// cutPower kills the machine and loses what its disk had not been told to keep.
// Done twice, it does nothing more.
func (m *machine) cutPower(t *testing.T) {
	t.Helper()
	if m.disk == nil {
		return
	}
	if m.cmd == nil || m.cmd.Process == nil {
		m.disk = nil
		return // it was never started
	}
	m.kill()
	<-m.exited
	if t.Failed() {
		t.Logf("the end of the machine's console:\n%s", m.console())
	}
	if m.conn != nil {
		_ = m.conn.Close() // the other end is gone
		<-m.Gone()
	}
	if m.serving {
		if err := <-m.served; err != nil {
			t.Errorf("the disk: %v", err)
		}
	}
	cached, lost, err := m.disk.cut()
	if err := errors.Join(err, m.disk.close(), os.RemoveAll(m.dir)); err != nil {
		t.Error(err)
	}
	t.Logf("power cut after %.0f s of processor time: of %d KiB in the disk's cache %d KiB are lost", m.cmd.ProcessState.UserTime().Seconds(), cached>>10, lost>>10)
	m.disk = nil
}

// run runs a program in the machine to its end.
func (m *machine) run(t *testing.T, argv ...string) (code int, stdout, stderr string) {
	t.Helper()
	return m.runWithin(t, patience, argv...)
}

func (m *machine) runWithin(t *testing.T, limit time.Duration, argv ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("it does not end"))
	defer cancel()
	var out, errs bytes.Buffer
	p, err := m.Start(agent.Options{Stdout: &out, Stderr: &errs}, argv...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CloseInput(); err != nil {
		t.Fatal(err)
	}
	if code, err = p.Wait(ctx); err != nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return code, out.String(), errs.String()
}

// must runs a program in the machine, wants success, and returns what it printed
// without the last newline.
func (m *machine) must(t *testing.T, argv ...string) string {
	t.Helper()
	code, stdout, stderr := m.run(t, argv...)
	if code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(argv, " "), code, stdout, stderr)
	}
	return strings.TrimSuffix(stdout, "\n")
}

func (m *machine) sh(t *testing.T, script string) string {
	t.Helper()
	return m.must(t, "sh", "-ec", script)
}

// dockerCommand is the client with the address of the engine.
var dockerCommand = slices.Clip([]string{"docker", "-H", "unix:///run/slipway/slipway.sock"})

func (m *machine) docker(t *testing.T, args ...string) string {
	t.Helper()
	return m.must(t, append(dockerCommand, args...)...)
}

const daemonLog = "/var/log/slipwayd.log"

// startDaemon starts the engine with its default directories and waits until it
// answers.
func (m *machine) startDaemon(t *testing.T, flags ...string) {
	t.Helper()
	if _, err := m.Start(agent.Options{}, "sh", "-c", "exec slipwayd "+strings.Join(flags, " ")+" >>"+daemonLog+" 2>&1"); err != nil {
		t.Fatal(err)
	}
	script := "for i in $(seq 600); do docker -H unix:///run/slipway/slipway.sock version >/dev/null 2>&1 && exit; sleep 0.2; done; exit 1"
	if code, _, _ := m.run(t, "sh", "-c", script); code != 0 {
		t.Fatalf("the daemon does not answer:\n%s", m.daemonLog(t))
	}
}

func (m *machine) daemonLog(t *testing.T) string {
	t.Helper()
	_, out, _ := m.run(t, "tail", "-n", "60", daemonLog)
	return out
}
