//go:build linux

package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestErrorStatus calls the API itself: each mistake has Docker's status and a
// message, and leaves nothing behind.
func TestErrorStatus(t *testing.T) {
	t.Parallel()
	d := engine(t)
	name := idle(t)
	stopped := createOnly(t)
	tests := []struct {
		name, method, path string
		body               any
		status             int
		message            string
	}{
		{"no such route", "GET", "/no/such", nil, 404, "page not found"},
		{"wrong method", "DELETE", "/version", nil, 404, "page not found"},
		{"no such container", "GET", "/containers/no-such/json", nil, 404, "No such container: no-such"},
		{"no such image", "GET", "/images/no-such/json", nil, 404, "No such image: no-such"},
		{"no such volume", "GET", "/volumes/no-such", nil, 404, "get no-such: no such volume"},
		{"no such network", "GET", "/networks/no-such", nil, 404, "network no-such not found"},
		{"no such exec", "GET", "/exec/no-such/json", nil, 404, "No such exec instance: no-such"},
		{"create without image", "POST", "/containers/create", map[string]any{}, 400, ""},
		{"create of no such image", "POST", "/containers/create", map[string]any{"Image": "no-such"}, 404, "No such image: no-such:latest"},
		{"not JSON", "POST", "/containers/create", strings.NewReader("{"), 400, ""},
		{"empty", "POST", "/containers/create", strings.NewReader(""), 400, ""},
		{"wrong type", "POST", "/containers/create", strings.NewReader(`{"Image":["busybox"]}`), 400, ""},
		{"two values", "POST", "/containers/create", strings.NewReader(`{"Image":"busybox"}{}`), 400, ""},
		{"bad name", "POST", "/containers/create?name=a%2Fb", map[string]any{"Image": "busybox"}, 400, "Invalid container name"},
		{"taken name", "POST", "/containers/create?name=" + name, map[string]any{"Image": "busybox"}, 409, "Conflict. The container name"},
		{"absurd memory", "POST", "/containers/create", create(map[string]any{"Memory": -5}), 400, ""},
		{"memory beyond", "POST", "/containers/create", strings.NewReader(`{"Image":"busybox","HostConfig":{"Memory":99999999999999999999}}`), 400, ""},
		{"bad port", "POST", "/containers/create", create(map[string]any{"PortBindings": map[string]any{"70000/tcp": []any{map[string]any{}}}}), 400, ""},
		{"bad bind", "POST", "/containers/create", create(map[string]any{"Binds": []string{"/a:/b:/c:/d"}}), 400, "invalid"},
		{"relative destination", "POST", "/containers/create", create(map[string]any{"Binds": []string{"/a:b"}}), 400, ""},
		{"bad restart policy", "POST", "/containers/create", create(map[string]any{"RestartPolicy": map[string]any{"Name": "sometimes"}}), 400, "sometimes"},
		{"start again", "POST", "/containers/" + name + "/start", nil, 304, ""},
		{"stop of a stopped one", "POST", "/containers/" + stopped + "/stop", nil, 304, ""},
		{"kill of a stopped one", "POST", "/containers/" + stopped + "/kill", nil, 409, "is not running"},
		{"rm of a running one", "DELETE", "/containers/" + name, nil, 409, "stop the container before removing"},
		{"exec in a stopped one", "POST", "/containers/" + stopped + "/exec", map[string]any{"Cmd": []string{"true"}}, 409, "is not running"},
		{"exec of nothing", "POST", "/containers/" + name + "/exec", map[string]any{}, 400, "No exec command specified"},
		{"unpause", "POST", "/containers/" + name + "/unpause", nil, 409, "is not paused"},
		{"bad filter", "GET", "/containers/json?filters=rubbish", nil, 400, ""},
		{"bad limit", "GET", "/containers/json?limit=many", nil, 400, ""},
		{"bad signal", "POST", "/containers/" + name + "/kill?signal=NOSUCH", nil, 400, "invalid signal: NOSUCH"},
		{"logs of no stream", "GET", "/containers/" + name + "/logs", nil, 400, "you must choose at least one stream"},
		{"resize to nothing", "POST", "/containers/" + name + "/resize?h=x&w=1", nil, 400, ""},
		{"archive of nothing", "GET", "/containers/" + name + "/archive", nil, 400, ""},
		{"archive of no such path", "GET", "/containers/" + name + "/archive?path=/no/such", nil, 404, "Could not find the file /no/such in container " + name},
		{"rm of a predefined network", "DELETE", "/networks/bridge", nil, 403, "pre-defined"},
		{"volume with a bad name", "POST", "/volumes/create", map[string]any{"Name": "../x"}, 400, "invalid characters"},
		{"pull of a bad name", "POST", "/images/create?fromImage=UPPER", nil, 400, "invalid reference format"},
		{"version too old", "GET", "/v1.30/containers/json", nil, 400, "is too old"},
		{"version too new", "GET", "/v1.999/containers/json", nil, 400, "is too new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			status, data, err := d.Request(tt.method, tt.path, tt.body)
			if err != nil {
				t.Fatal(err)
			}
			if status != tt.status {
				t.Fatalf("status %d, want %d: %s", status, tt.status, data)
			}
			if status == http.StatusNotModified {
				if len(data) != 0 {
					t.Errorf("a body: %s", data)
				}
				return
			}
			var answer struct{ Message string }
			if err := json.Unmarshal(data, &answer); err != nil || answer.Message == "" {
				t.Fatalf("no message in %q (%v)", data, err)
			}
			if !strings.Contains(answer.Message, tt.message) {
				t.Errorf("message %q, want %q", answer.Message, tt.message)
			}
		})
	}
}

func create(hostConfig map[string]any) map[string]any {
	return map[string]any{"Image": "busybox", "HostConfig": hostConfig}
}

func TestVersionAndInfo(t *testing.T) {
	t.Parallel()
	got := docker(t, "version", "-f", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}/{{.Server.Arch}}")
	if got != "1.56 1.40 linux/amd64" && !strings.HasSuffix(got, " linux/amd64") {
		t.Errorf("version: %q", got)
	}
	if got := docker(t, "info", "-f", "{{.Driver}} {{.OSType}} {{.DockerRootDir}}"); !strings.HasSuffix(got, " linux "+engine(t).DataRoot) {
		t.Errorf("info: %q", got)
	}
	// The pool says which method is in force and how full it is.
	info := docker(t, "info")
	if !strings.Contains(info, "reflink") && !strings.Contains(info, "pool") && !strings.Contains(info, "copy") {
		t.Errorf("info says nothing about the pool:\n%s", info)
	}
}

// TestOldClients: a client of each version that is promised gets along.
func TestOldClients(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.40", "1.41", "1.43", "1.47", "1.51"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			d := engine(t)
			status, data, err := d.Request("GET", "/v"+version+"/containers/json?all=1", nil)
			if err != nil || status != http.StatusOK {
				t.Fatalf("status %d, %v: %s", status, err, data)
			}
			name := idle(t)
			var inspected struct{ NetworkSettings map[string]any }
			d.API(t, "GET", "/v"+version+"/containers/"+name+"/json", nil, http.StatusOK, &inspected)
			if _, has := inspected.NetworkSettings["IPAddress"]; has != (version < "1.52") {
				t.Errorf("NetworkSettings.IPAddress is there: %v", has)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	name := unique(t)
	removeLater(t, engine(t), name)
	begin := time.Now().Add(-time.Second).Format(time.RFC3339Nano)
	if r := engine(t).Docker("run", "--name", name, "busybox", "sh", "-c", "exit 4"); r.Code != 4 {
		t.Fatalf("got %+v", r)
	}
	docker(t, "rename", name, name+"-b")
	docker(t, "rename", name+"-b", name)
	id := inspect(t, name, ".Id")
	docker(t, "rm", name)
	until := time.Now().Add(time.Second).Format(time.RFC3339Nano)
	time.Sleep(1100 * time.Millisecond)
	got := docker(t, "events", "--since", begin, "--until", until, "--filter", "type=container", "--filter", "container="+id, "--format", "{{.Action}}")
	if got != "create\nattach\nstart\ndie\nrename\nrename\ndestroy" {
		t.Errorf("events: %q", lines(got))
	}
	got = docker(t, "events", "--since", begin, "--until", until, "--filter", "event=die", "--filter", "container="+id, "--format",
		"{{.Actor.Attributes.exitCode}} {{.Actor.Attributes.image}} {{.Actor.Attributes.name}}")
	if got != "4 busybox "+name {
		t.Errorf("die: %q", got)
	}
}

func TestEventsLive(t *testing.T) {
	t.Parallel()
	label := "live=" + unique(t)
	cmd := engine(t).DockerCommand(t.Context(), "events", "--filter", "label="+label, "--filter", "event=start", "--format", "{{.Action}}")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	time.Sleep(500 * time.Millisecond)
	idle(t, "--label", label)
	buf := make([]byte, 100)
	n, err := out.Read(buf)
	if err != nil || string(buf[:n]) != "start\n" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

// TestOptionsAreHonouredOrRefused: an option is either seen in inspect or refused
// with an error that names it; none is taken and forgotten.
func TestOptionsAreHonouredOrRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		option string
		word   string // in the refusal
		field  string // of inspect, if accepted
		want   string
	}{
		{"--storage-opt=size=1g", "storage", "index .HostConfig.StorageOpt \"size\"", "1g"},
		{"--blkio-weight=300", "blkio", ".HostConfig.BlkioWeight", "300"},
		{"--device-read-bps=/dev/loop0:1mb", "read", "len .HostConfig.BlkioDeviceReadBps", "1"},
		{"--userns=host", "userns", ".HostConfig.UsernsMode", "host"},
		{"--runtime=no-such", "no-such", ".HostConfig.Runtime", "no-such"},
		{"--gpus=all", "device", "len .HostConfig.DeviceRequests", "1"},
		{"--sysctl=net.ipv4.ip_forward=1", "sysctl", "index .HostConfig.Sysctls \"net.ipv4.ip_forward\"", "1"},
		{"--oom-score-adj=500", "oom", ".HostConfig.OomScoreAdj", "500"},
		{"--oom-kill-disable", "oom", ".HostConfig.OomKillDisable", "true"},
		{"--memory-swappiness=10", "swappiness", ".HostConfig.MemorySwappiness", "10"},
		{"--cgroupns=private", "cgroup", ".HostConfig.CgroupnsMode", "private"},
		{"--link=no-such:x", "link", "index .HostConfig.Links 0", "no-such:x"},
		{"--device=/dev/null:/dev/null2", "device", "len .HostConfig.Devices", "1"},
		{"--network=container:no-such", "container", ".HostConfig.NetworkMode", "container:no-such"},
		{"--isolation=hyperv", "isolation", ".HostConfig.Isolation", "hyperv"},
		{"--ip6=2001:db8::9", "ip6", "len .NetworkSettings.Networks", "0"},
		{"--link-local-ip=169.254.1.1", "link-local", "len .NetworkSettings.Networks", "0"},
		{"--network-alias=al", "alias", "len .NetworkSettings.Networks", "0"},
		{"--network=name=bridge,driver-opt=a=b", "driver", "len .NetworkSettings.Networks", "0"},
		{"--publish=80/sctp", "sctp", "len .HostConfig.PortBindings", "0"},
		{"--publish=[::1]:19010:80", "ipv6", "len .HostConfig.PortBindings", "0"},
		{"--log-opt=mode=non-blocking", "mode", "len .HostConfig.LogConfig.Config", "0"},
	} {
		t.Run(tt.option, func(t *testing.T) {
			t.Parallel()
			name := unique(t)
			removeLater(t, engine(t), name)
			r := engine(t).Docker("create", "--name", name, tt.option, "busybox", "true")
			if r.Code != 0 {
				if !strings.Contains(strings.ToLower(r.Stderr), tt.word) {
					t.Errorf("refused without naming it: %s", r.Stderr)
				}
				return
			}
			// What the kernel cannot do is dropped with a warning, as Docker does.
			if got := inspect(t, name, tt.field); got != tt.want && !strings.Contains(r.Stderr, "WARNING: Your kernel") {
				t.Errorf("accepted, and inspect says %q; %s", got, r.Stderr)
			}
		})
	}
	for field, value := range map[string]any{"Healthcheck": spec{"Test": []string{"FOO", "x"}}, "StopSignal": "-1"} {
		if status, _, err := engine(t).Request(http.MethodPost, "/containers/create", spec{"Image": "busybox", field: value}); err != nil || status != http.StatusBadRequest {
			t.Errorf("%s %v: status %d, %v", field, value, status, err)
		}
	}
	// The client would pull the image if the container's absence were a 404.
	r := engine(t).Docker("create", "--volumes-from", "no-such", "busybox")
	if r.Code == 0 || !strings.Contains(r.Stderr, "No such container: no-such") || strings.Contains(r.Stderr, "Unable to find image") {
		t.Errorf("--volumes-from: %+v", r)
	}
	if r := engine(t).Docker("run", "--rm", "--device=/dev/null:/dev/null2", "busybox", "sh", "-c", "echo x > /dev/null2 && test -c /dev/null2"); r.Code != 0 && !strings.Contains(r.Stderr, "evice") {
		t.Errorf("--device: %+v", r)
	}
	if r := engine(t).Docker("run", "--rm", "--sysctl=net.ipv4.ip_default_ttl=77", "busybox", "cat", "/proc/sys/net/ipv4/ip_default_ttl"); r.Code == 0 && r.Stdout != "77\n" {
		t.Errorf("--sysctl: %+v", r)
	}
	if r := engine(t).Docker("run", "--rm", "--oom-score-adj=500", "busybox", "cat", "/proc/self/oom_score_adj"); r.Code == 0 && r.Stdout != "500\n" {
		t.Errorf("--oom-score-adj: %+v", r)
	}
}
