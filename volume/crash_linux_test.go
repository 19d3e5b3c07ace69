package volume

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"

	"slipway/internal/failpoint"
)

const crashDir = "VOLUME_CRASH_DIR"

// TestCrashChild is the process that the crash test kills: it makes volumes of
// every kind and removes them.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("runs as a child of TestCrashAtEveryFailpoint")
	}
	f := &fixture{dir: dir}
	f.open(t)
	must(t, f.Restore(t.Context(), nil))
	points := f.attach(t, "c1", f.image(t, "db", true), crashHost(f), "/var/lib", "/empty")
	must(t, os.WriteFile(filepath.Join(dir, "attached"), nil, 0o600))
	must(t, f.Detach(t.Context(), "c1", points, true))
	must(t, f.Remove(t.Context(), "named", false))
}

// crashHost has a volume of each kind that has a name.
func crashHost(f *fixture) mobycontainer.HostConfig {
	options := map[string]string{"type": "none", "o": "bind", "device": filepath.Join(f.dir, "device")}
	return mobycontainer.HostConfig{
		Binds: []string{"named:/var/lib/db"},
		Mounts: []mobymount.Mount{{Type: mobymount.TypeVolume, Source: "bound", Target: "/absolute/db", VolumeOptions: &mobymount.VolumeOptions{
			DriverConfig: &mobymount.Driver{Name: Driver, Options: options},
		}}},
	}
}

// failpoints returns the names that the package's sources hit.
func failpoints(t *testing.T) []string {
	t.Helper()
	sources, err := filepath.Glob("*.go")
	must(t, err)
	var names []string
	for _, source := range sources {
		text, err := os.ReadFile(source)
		must(t, err)
		for _, match := range regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, match[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestCrashAtEveryFailpoint kills the process at every durable step, each time it
// comes by, and looks whether the next one finds everything whole.
func TestCrashAtEveryFailpoint(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	names := failpoints(t)
	if len(names) < 12 {
		t.Fatalf("only %d failpoints: %v", len(names), names)
	}
	for _, name := range names {
		hits := 0
		for _, nth := range []string{"@1", "@2", "@3", "@4"} {
			f := newFixture(t)
			addDatabase(t, f)
			must(t, os.Mkdir(filepath.Join(f.dir, "device"), 0o755))
			f.close(t)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
			cmd.Env = append(os.Environ(), crashDir+"="+f.dir, failpoint.Env+"="+name+nth)
			output, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err == nil {
				break // it comes by less often than that
			}
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("%s: %v\n%s", name, err, output)
			}
			hits++
			checkAfterCrash(t, f, name+nth)
		}
		if hits == 0 {
			t.Errorf("%s is never hit", name)
		}
	}
}

func checkAfterCrash(t *testing.T, f *fixture, name string) {
	t.Helper()
	f.open(t)
	must(t, f.Restore(t.Context(), nil))
	f.clean(t)
	_, err := os.Stat(filepath.Join(f.dir, "attached"))
	wasAttached := err == nil
	all, err := f.List(t.Context(), nil)
	must(t, err)
	for _, v := range all {
		content := tree(t, v.Mountpoint)
		// A volume is filled or empty, never half.
		if len(content) != 0 && !cmp.Equal(content, database) && len(content) != len(database) {
			t.Errorf("%s: volume %s has %v", name, v.Name, content)
		}
		// No database was ever started with it.
		if len(content) != 0 && !f.Fresh(v.Name, "c2") {
			t.Errorf("%s: volume %s, which was filled, counts as used", name, v.Name)
		}
		if wasAttached && v.Name == "named" && !cmp.Equal(content, database) {
			t.Errorf("%s: the named volume lost its content: %v", name, content)
		}
	}
	device := filepath.Join(f.dir, "device")
	if content := tree(t, device); len(content) != 0 && (!cmp.Equal(content, database) || !f.Fresh("bound", "c2")) {
		t.Errorf("%s: the mounted volume has %v, fresh: %v", name, content, f.Fresh("bound", "c2"))
	}
	// What is left can be used, and removed.
	f.attach(t, "c2", f.image(t, "db", true), crashHost(f))
	for _, dir := range []string{f.data("named"), device} {
		if diff := cmp.Diff(database, tree(t, dir)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		wantOwner(t, dir, 70, 71, 0o2750)
	}
	must(t, f.Restore(t.Context(), nil))
	must(t, f.Remove(t.Context(), "bound", false)) // is not pruned
	_, err = f.Prune(t.Context(), Filters{"all": {"true": true}})
	must(t, err)
	if all, _ := f.List(t.Context(), nil); len(all) != 0 {
		t.Errorf("%s: %d volumes cannot be removed", name, len(all))
	}
	f.clean(t)
}
