//go:build linux

package windows

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"slipway/internal/testutil"
)

// wineDir is where script/wine has made a prefix, or "": the tests are skipped then.
var wineDir = os.Getenv("SLIPWAY_TEST_WINE")

// world is the prefix of this test process; all its engines run in it.
var world *prefix

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "windows:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if wineDir == "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "slipway-wine-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	if world, err = newPrefix(wineDir, dir); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, world.close()) }()
	return m.Run(), nil
}

// removeAll waits for Wine's last writes: the server saves the registry when the
// last process has gone.
func removeAll(dir string) (err error) {
	for range 50 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
	}
	return err
}

// needWine skips the test where script/wine made no prefix.
func needWine(t *testing.T) {
	t.Helper()
	if wineDir == "" {
		testutil.Skip(t, testutil.NeedsWine)
	}
}

// prefix is a copy of the prefix of script/wine: a Windows of its own, with its own
// processes, pipes and registry. The loopback network is Linux'.
type prefix struct{ dir string }

func newPrefix(from, dir string) (*prefix, error) {
	p := &prefix{dir: filepath.Join(dir, "prefix")}
	// Wine's own files are many, and nobody writes into them; it replaces the
	// registry's whole files, and the copy of these comes first.
	source := filepath.Join(from, "prefix")
	if out, err := exec.Command("cp", "-al", source, p.dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copying the prefix: %w: %s", err, out)
	}
	registry, err := filepath.Glob(filepath.Join(source, "*.reg"))
	if err != nil {
		return nil, err
	}
	for _, file := range registry {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		copied := filepath.Join(p.dir, filepath.Base(file))
		if err := errors.Join(os.Remove(copied), os.WriteFile(copied, data, 0o600)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// unix is where Linux has the prefix's file.
func (p *prefix) unix(windows string) string {
	return filepath.Join(p.dir, "drive_c", filepath.FromSlash(toSlash(windows[len(`C:\`):])))
}

// env is a process's environment in the prefix.
func (p *prefix) env(more ...string) []string {
	env := []string{
		"WINEPREFIX=" + p.dir, "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree=;mshtml=",
		"HOME=" + p.dir, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8",
	}
	return append(env, more...)
}

// close ends what still runs in the prefix, which the tests should not have left.
func (p *prefix) close() error {
	left := p.processes("")
	server := exec.Command("/usr/lib/wine/wineserver", "-k")
	server.Env = p.env()
	_ = server.Run() // fails if there is none
	wait := exec.Command("/usr/lib/wine/wineserver", "-w")
	wait.Env = p.env()
	err := wait.Run()
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("processes were left running: %v", left))
	}
	return err
}
