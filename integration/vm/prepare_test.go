//go:build linux

package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway/internal/testutil"
)

// bankImage is the bank before its first transfer.
const bankImage = "bank:0"

// newBankDisk makes a disk on which an engine has the images of busybox and of the
// bank. An engine on this machine makes them: it does not have to emulate a
// processor for that.
func newBankDisk(t *testing.T) (file string) {
	t.Helper()
	requireAssets(t)
	testutil.RequireRoot(t)
	file = newDataDisk(t)
	d, err := testutil.NewDaemon()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(mountDataRoot(t, file, d), d.Start(), d.LoadBusybox())
	if err == nil {
		err = makeBank(d)
	}
	// Destroy unmounts, and so leaves the disk as it is.
	if err := errors.Join(err, d.Destroy()); err != nil {
		t.Fatal(err)
	}
	awaitUnused(t, file)
	return file
}

func makeBank(d *testutil.Daemon) error {
	docker := func(args ...string) (string, error) {
		r := d.Docker(args...)
		if r.Code != 0 {
			return "", fmt.Errorf("docker %s: %s%s", strings.Join(args, " "), r.Stdout, r.Stderr)
		}
		return strings.TrimSpace(r.Stdout), nil
	}
	loaded, err := docker("load", "-q", "-i", filepath.Join(os.Getenv(assetsEnv), postgresArchive))
	if err != nil {
		return err
	}
	_, postgres, _ := strings.Cut(loaded, ": ")
	if _, err := docker("run", "-d", "--name", bankName, "-e", "POSTGRES_HOST_AUTH_METHOD=trust", postgres); err != nil {
		return err
	}
	for deadline := time.Now().Add(testutil.Patience); ; time.Sleep(100 * time.Millisecond) {
		// Over TCP: the server that only fills the cluster does not listen there.
		_, err := docker("exec", "-u", "postgres", bankName, "psql", "-h", "127.0.0.1", "-qAtXc", "SELECT 1")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
	}
	if _, err := docker("exec", "-u", "postgres", bankName, "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", bankSchema); err != nil {
		return err
	}
	_, err = docker("commit", bankName, bankImage)
	return err
}

// mountDataRoot mounts the disk, and as the engine's data root the directory that
// the machine will see as its default one.
func mountDataRoot(t *testing.T, file string, d *testutil.Daemon) error {
	t.Helper()
	disk := filepath.Join(d.Root, "disk")
	dataRoot := filepath.Join(disk, "lib", "slipway")
	return errors.Join(
		os.Mkdir(disk, 0o700),
		tool(t.Context(), "mount", "-o", "loop", file, disk),
		os.MkdirAll(dataRoot, 0o700),
		os.MkdirAll(d.DataRoot, 0o700),
		unix.Mount(dataRoot, d.DataRoot, "", unix.MS_BIND, ""),
	)
}

// awaitUnused waits until the kernel has let go of a disk that was unmounted.
func awaitUnused(t *testing.T, file string) {
	t.Helper()
	testutil.Eventually(t, "the disk is not in use any more", func() bool {
		backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range backing {
			if data, err := os.ReadFile(b); err == nil && strings.TrimSpace(string(data)) == file {
				return false
			}
		}
		return true
	})
}
