//go:build linux

package integration

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestContainerPrune prunes by a label of its own, because other tests have
// stopped containers, too.
func TestContainerPrune(t *testing.T) {
	t.Parallel()
	label := "of=" + unique(t)
	started := func(command string, options ...string) string {
		t.Helper()
		name := unique(t)
		removeLater(t, engine(t), name)
		docker(t, append(append([]string{"run", "-d", "--name", name, "--label", label}, options...), "busybox", "sh", "-c", command)...)
		return name
	}
	const forever = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
	running, paused := started(forever), started(forever)
	docker(t, "pause", paused)
	restarting := started("exit 1", "--restart", "always")
	kept := started("true", "--label", "keep=yes")
	volume := unique(t)
	t.Cleanup(func() { engine(t).Docker("volume", "rm", "-f", volume) })
	full := started("head -c 3000000 /dev/urandom >/file", "-v", volume+":/vol")
	created := createOnly(t, "--label", label, "busybox", "true")
	for _, name := range []string{kept, full} {
		docker(t, "wait", name)
	}
	ids := map[string]string{}
	for _, name := range []string{running, paused, restarting, kept, full, created} {
		ids[inspect(t, name, ".Id")] = name
	}
	gone := func(out string) (names []string) {
		for word := range strings.FieldsSeq(out) {
			if name := ids[word]; name != "" {
				names = append(names, name)
			}
		}
		return names
	}
	// All are younger than an hour.
	if out := docker(t, "container", "prune", "-f", "--filter", "label="+label, "--filter", "until=1h"); len(gone(out)) > 0 {
		t.Errorf("until=1h: %s", out)
	}
	out := docker(t, "container", "prune", "-f", "--filter", "label="+label, "--filter", "label!=keep=yes", "--filter", "until="+time.Now().Add(time.Second).Format(time.RFC3339Nano))
	if got := gone(out); len(got) != 2 || got[0] != created || got[1] != full {
		t.Errorf("pruned %q, want %q and %q", got, created, full)
	}
	if !regexp.MustCompile(`Total reclaimed space: 3(\.\d+)?MB`).MatchString(out) {
		t.Errorf("it says %q", out)
	}
	if got := lines(docker(t, "ps", "-a", "--filter", "label="+label, "--format", "{{.Names}}")); len(got) != 4 {
		t.Errorf("left are %q", got)
	}
	docker(t, "volume", "inspect", volume)
	if got := events(t, "type=container", "event=prune"); len(got) == 0 || !strings.Contains(strings.Join(got, ""), `"reclaimed":"3`) {
		t.Errorf("events: %q", got)
	}
	dockerFails(t, "invalid filter 'name'", "container", "prune", "-f", "--filter", "name=x")
	dockerFails(t, "more than one until filter specified", "container", "prune", "-f", "--filter", "until=1h", "--filter", "until=2h")
}
