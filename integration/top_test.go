//go:build linux

package integration

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

func TestTop(t *testing.T) {
	t.Parallel()
	name := background(t, "busybox", "sh", "-c", "sleep 601 & sleep 602 & wait")
	docker(t, "exec", "-d", "-u", "1000", name, "sleep", "603")
	main := engine(t).ContainerProcess(t, name)
	testutil.Eventually(t, "top shows all four", func() bool { return len(lines(docker(t, "top", name))) == 5 })
	got := lines(docker(t, "top", name))
	if head := strings.Fields(got[0]); !slices.Equal(head, []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}) {
		t.Errorf("titles %q", head)
	}
	for _, sleeper := range []string{"sleep 601", "sleep 602", "sleep 603"} {
		if !strings.Contains(strings.Join(got, "\n"), sleeper) {
			t.Errorf("%q is missing in %q", sleeper, got)
		}
	}
	// The numbers are the host's, and other columns can be asked for.
	got = lines(docker(t, "top", name, "-o", "user,pid,args"))
	if head := strings.Fields(got[0]); !slices.Equal(head, []string{"USER", "PID", "COMMAND"}) {
		t.Errorf("titles %q", head)
	}
	found := false
	for _, line := range got[1:] {
		found = found || strings.Fields(line)[1] == strconv.Itoa(int(main))
	}
	if !found || len(got) != 5 {
		t.Errorf("process %d is not in %q", main, got)
	}
	// Options that ps does not take together with a list of processes.
	if got := lines(docker(t, "top", name, "-eo", "pid,comm")); len(got) != 5 {
		t.Errorf("-e: %q", got)
	}
	dockerFails(t, `specifying "comm=PID" is not allowed`, "top", name, "-o", "comm=PID")
	dockerFails(t, "Couldn't find PID field in ps output", "top", name, "-o", "comm")
	dockerFails(t, "", "top", name, "--no-such-option")
	docker(t, "pause", name)
	if got := lines(docker(t, "top", name)); len(got) != 5 {
		t.Errorf("paused: %q", got)
	}
	docker(t, "unpause", name)
	docker(t, "kill", name)
	dockerFails(t, "is not running", "top", name)
	dockerFails(t, "No such container: no-such", "top", "no-such")
	if got := events(t, "container="+name, "event=top"); len(got) < 4 {
		t.Errorf("events: %q", got)
	}
}
