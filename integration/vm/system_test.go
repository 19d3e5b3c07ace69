//go:build linux

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// programsDir holds in the machine the engine, its tools, the clients and the
// tests.
const programsDir = "/opt/slipway"

// hostPrograms are this machine's own programs that the engine or its tests call.
var hostPrograms = []string{"mkfs.xfs", "xfs_repair", "nft"}

// files are the ones that a Debian has and programs look for.
var files = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\n",
	"etc/group":         "root:x:0:\n",
	"etc/hosts":         "127.0.0.1 localhost\n",
	"etc/hostname":      "guest\n",
	"etc/resolv.conf":   "nameserver 192.0.2.1\n",
	"etc/nsswitch.conf": "hosts: files dns\n",
	"etc/os-release":    "PRETTY_NAME=\"Slipway's test machine\"\nID=debian\n",
}

// system builds the tree of the system image.
type system struct{ root string }

// writeSystem makes the machine's first disk. bin is the project's bin/, debian
// is where Debian's packages were unpacked, and extra are more files, by their
// path in the machine.
func writeSystem(ctx context.Context, image, bin, debian string, extra map[string]string) error {
	root, err := os.MkdirTemp(filepath.Dir(image), "system-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	s := system{root}
	if err := s.skeleton(); err != nil {
		return err
	}
	for _, name := range hostPrograms {
		if err := s.addProgram(ctx, name, ""); err != nil {
			return err
		}
	}
	if err := s.addProgram(ctx, filepath.Join(debian, "sbin", "apparmor_parser"), "/usr/sbin/apparmor_parser"); err != nil {
		return err
	}
	for _, name := range []string{
		"slipwayd", "slipway", "slipway-logger", "slipway-init", "runc", "containerd-shim-runc-v2", "clients/docker",
	} {
		if err := s.addProgram(ctx, filepath.Join(bin, name), filepath.Join(programsDir, filepath.Base(name))); err != nil {
			return err
		}
	}
	for to, from := range extra {
		if err := s.copy(from, to); err != nil {
			return err
		}
	}
	if err := s.addBusybox(ctx); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(root, "etc", "apparmor.d"), os.DirFS(filepath.Join(debian, "etc", "apparmor.d"))); err != nil {
		return err
	}
	return makeExt4(ctx, image, 512<<20, root)
}

func (s system) skeleton() error {
	for _, dir := range []string{
		"dev", "etc", "opt", "proc", "root", "run", "sys", "tmp", "var", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64",
	} {
		if err := os.MkdirAll(filepath.Join(s.root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(s.root, dir)); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.root, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copy puts a file of this machine into the system.
func (s system) copy(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	to = filepath.Join(s.root, to)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

var libraryLine = regexp.MustCompile(`(/\S+) \(0x`)

// addProgram puts a program there, under its own path if no other is given, with
// the libraries it needs.
func (s system) addProgram(ctx context.Context, name, to string) error {
	file, err := exec.LookPath(name)
	if err != nil {
		if file, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return err
		}
	}
	if to == "" {
		to = file
	}
	if err := s.copy(file, to); err != nil {
		return err
	}
	// Fails if the program is linked statically, and prints no library then.
	out, _ := exec.CommandContext(ctx, "ldd", file).Output()
	for _, match := range libraryLine.FindAllSubmatch(out, -1) {
		library := string(match[1])
		if err := s.copy(library, library); err != nil {
			return err
		}
	}
	return nil
}

// addBusybox adds busybox under all its names that nothing else has.
func (s system) addBusybox(ctx context.Context) error {
	if err := s.copy("/bin/busybox", "/usr/bin/busybox"); err != nil {
		return err
	}
	list, err := exec.CommandContext(ctx, "/bin/busybox", "--list").Output()
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(list)) {
		if _, err := os.Lstat(filepath.Join(s.root, "usr/sbin", name)); err == nil {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(s.root, "usr/bin", name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// makeExt4 makes a file system in a sparse file, with the tree in it if there is
// one.
func makeExt4(ctx context.Context, file string, size int64, tree string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	args := []string{"-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1"}
	if tree != "" {
		args = append(args, "-d", tree)
	}
	return tool(ctx, "/sbin/mke2fs", append(args, file)...)
}

// tool runs a program of this machine.
func tool(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, fmt.Errorf("%s does not end", name))
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, &out)
	}
	return nil
}
