//go:build linux

package integration

import (
	"slices"
	"strings"
	"testing"

	"slipway/internal/testutil"
)

func TestRunOutput(t *testing.T) {
	t.Parallel()
	r := engine(t).Docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
	if r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestRunExitCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		code int
		text string
	}{
		{"own", []string{"busybox", "sh", "-c", "exit 7"}, 7, ""},
		{"no such command", []string{"busybox", "no-such-command"}, 127, "executable file not found"},
		{"no such path", []string{"busybox", "/no/such/command"}, 127, "no such file or directory"},
		{"not executable", []string{"busybox", "/etc/passwd"}, 126, "permission denied"},
		{"a directory", []string{"busybox", "/etc"}, 126, ""},
		{"no such image", []string{"--pull=never", "no-such-image"}, 125, "No such image: no-such-image:latest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := engine(t).Docker(append([]string{"run", "--rm"}, tt.args...)...)
			if r.Code != tt.code || !strings.Contains(r.Stderr, tt.text) {
				t.Errorf("exit code %d, want %d; error %q, want %q", r.Code, tt.code, r.Stderr, tt.text)
			}
		})
	}
}

func TestRunRemovesItself(t *testing.T) {
	t.Parallel()
	name := unique(t)
	docker(t, "run", "--rm", "-d", "--name", name, "-v", "/data", "busybox", "true")
	testutil.Eventually(t, "the container is gone", func() bool {
		return docker(t, "ps", "-aq", "--filter", "name=^"+name+"$") == ""
	})
	// Its name is free, though it could not start.
	r := engine(t).Docker("run", "--rm", "--name", name, "busybox", "no-such-command")
	if r.Code != 127 {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
	if left := docker(t, "ps", "-aq", "--filter", "name=^"+name+"$"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestEntrypointAndCommand(t *testing.T) {
	t.Parallel()
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := engine(t).MustLoad(t, base.With(unique(t)+":x", nil, func(c *testutil.ImageConfig) {
		c.Entrypoint, c.Cmd = []string{"echo", "entry"}, []string{"cmd"}
	}))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{image}, "entry cmd"},
		{[]string{image, "mine"}, "entry mine"},
		{[]string{"--entrypoint", "basename", image, "/a/b"}, "b"},
	} {
		if got := run(t, tt.args...); got != tt.want {
			t.Errorf("run %q: %q, want %q", tt.args, got, tt.want)
		}
	}
	// As in Docker, another entry point drops the image's command.
	if r := engine(t).Docker("run", "--rm", "--entrypoint", "true", image); r.Code != 0 || r.Stdout != "" {
		t.Errorf("got %+v", r)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := engine(t).MustLoad(t, base.With(unique(t)+":x", nil, func(c *testutil.ImageConfig) {
		c.Env = append(c.Env, "FROM_IMAGE=image", "BOTH=image", "REMOVED=image")
	}))
	name := background(t, "-e", "BOTH=user", "-e", "EMPTY=", "-e", "REMOVED", "--hostname", "box", image, "sleep", "600")
	env := engine(t).ContainerProcess(t, name).Environ(t)
	for _, want := range []string{
		"FROM_IMAGE=image", "BOTH=user", "EMPTY=", "HOSTNAME=box", "HOME=/root",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in %q", want, env)
		}
	}
	if i := slices.IndexFunc(env, func(s string) bool { return strings.HasPrefix(s, "REMOVED") || strings.HasPrefix(s, "TERM=") }); i >= 0 {
		t.Errorf("%s must not be there", env[i])
	}
	if got := run(t, "-t", "busybox", "sh", "-c", "echo $TERM"); strings.TrimSpace(got) != "xterm" {
		t.Errorf("TERM with a terminal: %q", got)
	}
}

func TestUserAndGroups(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "uid=0(root) gid=0(root) groups=0(root)"},
		{[]string{"-u", "app"}, "uid=1000(app) gid=1000(app) groups=50(staff),1000(app),2000(data)"},
		{[]string{"-u", "app:staff"}, "uid=1000(app) gid=50(staff) groups=50(staff)"},
		{[]string{"-u", "1000"}, "uid=1000(app) gid=1000(app) groups=50(staff),1000(app),2000(data)"},
		{[]string{"-u", "4321:8765"}, "uid=4321 gid=8765 groups=8765"},
		{[]string{"-u", "4321"}, "uid=4321 gid=0(root) groups=0(root)"},
		{[]string{"-u", "4321", "--group-add", "staff", "--group-add", "77"}, "uid=4321 gid=0(root) groups=0(root),50(staff),77"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			got := run(t, append(tt.args, "busybox", "id")...)
			if sortGroups(got) != sortGroups(tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	// An exec as another user keeps what --group-add has added.
	name := idle(t, "--group-add", "77")
	if got := docker(t, "exec", "-u", "4321", name, "id"); sortGroups(got) != sortGroups("uid=4321 gid=0(root) groups=0(root),77") {
		t.Errorf("exec: %s", got)
	}
	if r := engine(t).Docker("exec", "-u", "nobody-here", name, "id"); r.Code != 126 || !strings.HasPrefix(r.Stdout, "unable to find user nobody-here") {
		t.Errorf("exec as nobody: %+v", r)
	}
	for user, text := range map[string]string{"nobody-here": "nobody-here", "app:no-group": "no-group"} {
		r := dockerFails(t, "no matching entries in", "run", "--rm", "-u", user, "busybox", "true")
		if r.Code != 125 && r.Code != 126 || !strings.Contains(r.Stderr, text) {
			t.Errorf("user %s: exit code %d: %s", user, r.Code, r.Stderr)
		}
	}
}

// sortGroups makes the output of id comparable: the order of groups says nothing.
func sortGroups(id string) string {
	head, groups, _ := strings.Cut(id, "groups=")
	all := strings.Split(groups, ",")
	slices.Sort(all)
	return head + strings.Join(all, ",")
}

func TestWorkingDirectory(t *testing.T) {
	t.Parallel()
	if got := run(t, "-w", "/made/by/run", "busybox", "sh", "-c", "pwd; stat -c %u:%g:%a ."); got != "/made/by/run\n0:0:755" {
		t.Errorf("got %q", got)
	}
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := engine(t).MustLoad(t, base.With(unique(t)+":x", nil, func(c *testutil.ImageConfig) { c.WorkingDir = "/home/app" }))
	if got := run(t, image, "pwd"); got != "/home/app" {
		t.Errorf("the image's: %q", got)
	}
	dockerFails(t, "the working directory 'relative' is invalid, it needs to be an absolute path", "run", "--rm", "-w", "relative", "busybox", "pwd")
}

func TestHostname(t *testing.T) {
	t.Parallel()
	got := run(t, "--hostname", "box", "--domainname", "example.org", "busybox", "sh", "-c", "hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname; grep -w box /etc/hosts")
	l := lines(got)
	if len(l) != 4 || l[0] != "box" || l[1] != "box" || l[2] != "example.org" || !strings.HasPrefix(l[3], "10.") {
		t.Errorf("got %q", got)
	}
	name := idle(t)
	if got := docker(t, "exec", name, "hostname"); got != inspect(t, name, ".Id")[:12] {
		t.Errorf("without the option: %q", got)
	}
}

func TestHostsAndResolver(t *testing.T) {
	t.Parallel()
	got := run(t, "--add-host", "db:10.9.8.7", "--dns", "10.1.2.3", "--dns-search", "example.org", "--dns-option", "ndots:3",
		"busybox", "sh", "-c", "grep db /etc/hosts; cat /etc/resolv.conf")
	for _, want := range []string{"10.9.8.7\tdb", "nameserver 10.1.2.3", "search example.org", "options ndots:3"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if got := run(t, "busybox", "sh", "-c", "cat /etc/hosts"); !strings.Contains(got, "127.0.0.1\tlocalhost") {
		t.Errorf("hosts:\n%s", got)
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	base, err := testutil.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image := engine(t).MustLoad(t, base.With(unique(t)+":x", nil, func(c *testutil.ImageConfig) {
		c.Labels = map[string]string{"a": "image", "b": "image"}
	}))
	name := unique(t)
	removeLater(t, engine(t), name)
	docker(t, "create", "--name", name, "--label", "b=user", "--label", "c", image)
	if got := inspect(t, name, "json .Config.Labels"); got != `{"a":"image","b":"user","c":""}` {
		t.Errorf("got %s", got)
	}
}

func TestInit(t *testing.T) {
	t.Parallel()
	// A process whose parent ended is reaped by the init, and only by it.
	script := "(sleep 0.01 &) ; sleep 0.5; cat /proc/1/comm; ps -o stat,comm | grep -c '^Z'"
	got := run(t, "--init", "busybox", "sh", "-c", script+"; true")
	l := lines(got)
	if len(l) != 2 || l[0] == "sh" || l[1] != "0" {
		t.Errorf("with --init: %q", got)
	}
	if r := engine(t).Docker("run", "--rm", "--init", "busybox", "sh", "-c", "exit 5"); r.Code != 5 {
		t.Errorf("exit code through the init: %d", r.Code)
	}
	name := background(t, "--init", "busybox", "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
	testutil.Eventually(t, "the shell has its trap", func() bool { return docker(t, "logs", name) == "ready" })
	docker(t, "stop", "-t", "20", name)
	if got := inspect(t, name, ".State.ExitCode"); got != "3" {
		t.Errorf("a signal through the init: exit code %s", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	id := docker(t, "create", "--name", name, "busybox", "true")
	if len(id) != 64 {
		t.Errorf("id %q", id)
	}
	r := dockerFails(t, `Conflict. The container name "/`+name+`" is already in use by container "`+id+`"`, "create", "--name", name, "busybox")
	if r.Code != 1 {
		t.Errorf("exit code %d", r.Code)
	}
	dockerFails(t, "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", "create", "--name=-x", "busybox")
	for _, ref := range []string{id, id[:12], name} {
		if got := inspect(t, ref, ".Name"); got != "/"+name {
			t.Errorf("inspect %s: %s", ref, got)
		}
	}

	other := unique(t)
	removeLater(t, engine(t), other)
	docker(t, "rename", name, other)
	if got := inspect(t, id, ".Name"); got != "/"+other {
		t.Errorf("renamed: %s", got)
	}
	dockerFails(t, "No such container: "+name, "start", name)
	docker(t, "create", "--name", name, "busybox") // free again
	dockerFails(t, "already in use", "rename", name, other)

	generated := docker(t, "create", "busybox")
	removeLater(t, engine(t), generated)
	if n := inspect(t, generated, ".Name"); !strings.Contains(n, "_") {
		t.Errorf("a generated name: %s", n)
	}
}
