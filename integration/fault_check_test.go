//go:build linux

package integration

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestFaultPlanted plants leaks and losses outside of the records of a running
// engine: `slipway debug check` finds each. Those in the records are planted in
// the packages' own tests, beside many more (TestCheckFindsPlanted in container,
// TestCheckLeaksFinds in image, TestCheckFindsLeaks in volume,
// TestPlantedLeaksAreFound in network).
func TestFaultPlanted(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := backgroundOn(t, d, "-v", "data:/data", "busybox", "sleep", "600")
	shim := d.ContainerProcess(t, name).Parent(t)
	volumes, stray := filepath.Join(d.DataRoot, "pool/volumes"), strings.Repeat("e", 64)
	directory := func(parts ...string) (plant, undo func() error) {
		path := filepath.Join(parts...)
		return func() error { return os.MkdirAll(path, 0o700) }, func() error { return os.Remove(path) }
	}
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: d.Bridge + "x"})
	veth.PeerName = d.Bridge + "y"
	var fake *exec.Cmd
	type planted struct {
		kind, want string
		plant      func() error
		undo       func() error
	}
	plants := []planted{
		{kind: "interface", want: "interface " + d.Bridge + "x", plant: func() error {
			bridge, err := net.InterfaceByName(d.Bridge)
			if err != nil {
				return err
			}
			veth.MasterIndex = bridge.Index
			return netlink.LinkAdd(veth)
		}, undo: func() error { return netlink.LinkDel(veth) }},
		{kind: "volume mount", want: "belongs to no volume in use", plant: func() error {
			return errors.Join(os.Mkdir(filepath.Join(volumes, "data/_data/m"), 0o700), unix.Mount("x", filepath.Join(volumes, "data/_data/m"), "tmpfs", 0, ""))
		}, undo: func() error {
			return errors.Join(unix.Unmount(filepath.Join(volumes, "data/_data/m"), 0), os.Remove(filepath.Join(volumes, "data/_data/m")))
		}},
		{kind: "lost volume data", want: "the data directory of volume data is missing", plant: func() error {
			return os.Rename(filepath.Join(volumes, "data/_data"), filepath.Join(volumes, "data/aside"))
		}, undo: func() error {
			return os.Rename(filepath.Join(volumes, "data/aside"), filepath.Join(volumes, "data/_data"))
		}},
		{kind: "shim", want: `"shim"`, plant: func() error {
			args := strings.Split(shim.Read(t, "cmdline"), "\x00")
			args[slices.Index(args, "-id")+1] = stray
			// What it is called and told is a shim's; it only sleeps.
			fake = exec.CommandContext(t.Context(), "/bin/sh")
			fake.Args = append([]string{args[0], "-c", "sleep 600; true", "shim"}, args[1:]...)
			fake.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
			return fake.Start()
		}, undo: func() error {
			err := unix.Kill(-fake.Process.Pid, unix.SIGKILL)
			_ = fake.Wait() // was killed
			return err
		}},
	}
	for kind, parts := range map[string][]string{
		`"directory"`: {d.DataRoot, "containers", stray}, `"root mount"`: {d.ExecRoot, "rootfs", stray}, `"stream"`: {d.ExecRoot, "io", stray},
		"belongs to no volume": {volumes, "stray"}, "network namespace": {d.ExecRoot, "netns", stray},
	} {
		plant, undo := directory(parts...)
		plants = append(plants, planted{kind: kind, want: kind, plant: plant, undo: undo})
	}
	checkFindsNothing(t, d)
	for _, p := range plants {
		if err := p.plant(); err != nil {
			t.Fatalf("%s: %v", p.kind, err)
		}
		found, err := d.Check()
		if err != nil || !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, p.want) }) {
			t.Errorf("planted %s, found %q, %v", p.kind, found, err)
		}
		if r := d.Slipway("debug", "check"); r.Code == 0 {
			t.Errorf("planted %s: slipway debug check succeeds: %s", p.kind, r.Stdout)
		}
		if err := p.undo(); err != nil {
			t.Fatalf("%s: %v", p.kind, err)
		}
		checkFindsNothing(t, d)
	}
	if r := d.Slipway("debug", "check"); r.Code != 0 {
		t.Errorf("slipway debug check finds something where nothing is: %s%s", r.Stdout, r.Stderr)
	}
}

// TestFaultStrayShim: a daemon that is killed while a shim starts leaves its
// process behind, which containerd does not know; the next daemon ends it.
func TestFaultStrayShim(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	shim := d.ContainerProcess(t, backgroundOn(t, d, "busybox", "sleep", "600")).Parent(t)
	args := strings.Split(shim.Read(t, "cmdline"), "\x00")
	args[slices.Index(args, "-id")+1] = strings.Repeat("d", 64)
	d.Kill()
	stray := exec.CommandContext(t.Context(), "/bin/sh")
	stray.Args = append([]string{args[0], "-c", "sleep 600; true", "shim"}, args[1:]...)
	stray.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	t.Cleanup(func() { _ = unix.Kill(-stray.Process.Pid, unix.SIGKILL) }) // its sleep
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stray.Wait() }()
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the stray shim ended with %v", err)
	}
	if !shim.Alive() {
		t.Error("the shim of a running container was killed as well")
	}
	checkFindsNothing(t, d)
}
