package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway/container/rootfs"
)

// flipEnv makes the test program a flipper: a process that races with copies.
const flipEnv = "SLIPWAY_TEST_FLIP"

func TestMain(m *testing.M) {
	if dir := os.Getenv(flipEnv); dir != "" {
		flip(dir)
	}
	os.Exit(m.Run())
}

// flip makes dir/flip a folder and a link to the host by turns: in steps, and by an atomic exchange.
func flip(dir string) {
	at := func(name string) string { return filepath.Join(dir, name) }
	for {
		_ = os.Rename(at("steps/flip"), at("steps/away"))
		_ = os.Symlink(at("../victim"), at("steps/flip"))
		_ = os.Remove(at("steps/flip"))
		_ = os.Rename(at("steps/away"), at("steps/flip"))
		for range 3 {
			_ = unix.Renameat2(unix.AT_FDCWD, at("atomic/flip"), unix.AT_FDCWD, at("atomic/link"), unix.RENAME_EXCHANGE)
		}
		time.Sleep(20 * time.Microsecond) // two cores are all that some have
	}
}

func TestRacingSymlinks(t *testing.T) {
	needRoot(t)
	copies := 10_000
	if testing.Short() {
		copies = 500
	}
	r, root, host := newRoot(t)
	mkdir(t, host, "victim")
	write(t, "secret of the host", host, "victim", "f")
	victim := filepath.Join(host, "victim")
	for _, d := range []string{"steps/flip", "atomic/flip"} {
		mkdir(t, root, d)
		write(t, "of the container", root, d, "f")
	}
	symlink(t, victim, root, "atomic", "link")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), flipEnv+"="+root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })

	succeeded := 0
	for i := range copies {
		dir := [2]string{"steps", "atomic"}[i%2]
		name := fmt.Sprintf("n%d", i%50)
		b := makeTar(t, file("flip/"+name, "x"), file("flip/f", "of the container"), &tar.Header{Typeflag: tar.TypeDir, Name: "flip/d" + name, Mode: 0o755})
		if r.Extract(t.Context(), "/"+dir, b, rootfs.ExtractOptions{}) == nil {
			succeeded++
		}
		_ = r.Extract(t.Context(), "/"+dir+"/flip", makeTar(t, file(name, "x")), rootfs.ExtractOptions{})
		var out bytes.Buffer
		if r.Archive(t.Context(), "/"+dir+"/flip/", &out) == nil && bytes.Contains(out.Bytes(), []byte("secret of the host")) {
			t.Fatal("the host's file was read")
		}
		if b, err := r.ReadFile("/"+dir+"/flip/f", 100); err == nil && string(b) == "secret of the host" {
			t.Fatal("the host's file was read")
		}
		if i%20 < 2 { // these reach the disk
			_ = r.WriteFile("/"+dir+"/flip/f", []byte("of the container"), 0o644)
			_ = r.Remove("/" + dir + "/flip/f")
		}
	}
	t.Logf("%d of %d copies met a folder", succeeded, copies)
	if succeeded == 0 {
		t.Error("no copy succeeded: the test shows nothing")
	}
	entries, err := os.ReadDir(victim)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
	if b, _ := os.ReadFile(filepath.Join(victim, "f")); string(b) != "secret of the host" {
		t.Errorf("the host's file is now %q", b)
	}
}

func FuzzExtract(f *testing.F) {
	f.Add(makeTar(f, file("a/b", "x"), &tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/../.."}, file("l/x", "y")).Bytes())
	f.Add(makeTar(f, &tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "/../../secret"}).Bytes())
	f.Add(makeTar(f, file("../../x", "x")).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		host := t.TempDir()
		root := filepath.Join(host, "root")
		mkdir(t, root)
		write(t, "secret", host, "secret")
		r, err := rootfs.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, context.DeadlineExceeded)
		defer cancel()
		_ = r.Extract(ctx, "/", bytes.NewReader(b), rootfs.ExtractOptions{})
		entries, err := os.ReadDir(host)
		if err != nil || len(entries) != 2 {
			t.Fatalf("outside: %v, %v", entries, err)
		}
		if b, _ := os.ReadFile(filepath.Join(host, "secret")); string(b) != "secret" {
			t.Fatalf("outside: %q", b)
		}
	})
}
