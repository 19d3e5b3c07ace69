package shim

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"

	"slipway/shim/job"
)

func TestLimitWithoutBackendIsRefused(t *testing.T) {
	nothing := job.Backends{Memory: job.Guard, Processes: job.Guard, CPU: job.None, Priority: job.None, Network: job.None, IO: job.None}
	for name, host := range map[string]*mobycontainer.HostConfig{
		"--cpus":                  {Resources: mobycontainer.Resources{NanoCPUs: 5e8}},
		"--cpu-shares":            {Resources: mobycontainer.Resources{CPUShares: 10}},
		"--io-maxiops":            {Resources: mobycontainer.Resources{IOMaximumIOps: 10}},
		job.PriorityAnnotation:    {Annotations: map[string]string{job.PriorityAnnotation: "idle"}},
		job.NetworkRateAnnotation: {Annotations: map[string]string{job.NetworkRateAnnotation: "1000"}},
	} {
		_, err := validate(&mobycontainer.Config{}, host, nothing)
		if !errdefs.IsNotImplemented(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	guarded := &mobycontainer.HostConfig{Resources: mobycontainer.Resources{Memory: 64 << 20, PidsLimit: new(int64(5))}}
	if _, err := validate(&mobycontainer.Config{}, guarded, nothing); err != nil {
		t.Errorf("what the guard does: %v", err)
	}
}

func TestBadValues(t *testing.T) {
	for name, request := range map[string]SpecRequest{
		"relative dir": {Config: &mobycontainer.Config{WorkingDir: "a"}},
		"other drive":  {Config: &mobycontainer.Config{WorkingDir: `D:\a`}},
		"device":       {Config: &mobycontainer.Config{WorkingDir: `C:\con`}},
		"stream":       {Config: &mobycontainer.Config{WorkingDir: `C:\a:b`}},
		"two of CPU":   {HostConfig: &mobycontainer.HostConfig{Resources: mobycontainer.Resources{CPUCount: 1, CPUPercent: 5}}},
		"percent":      {HostConfig: &mobycontainer.HostConfig{Resources: mobycontainer.Resources{CPUPercent: 101}}},
		"memory":       {HostConfig: &mobycontainer.HostConfig{Resources: mobycontainer.Resources{Memory: 1000}}},
		"identity":     {HostConfig: &mobycontainer.HostConfig{Annotations: map[string]string{job.IdentityAnnotation: "root"}}},
		"priority":     {HostConfig: &mobycontainer.HostConfig{Annotations: map[string]string{job.PriorityAnnotation: "real-time"}}},
		"rate":         {HostConfig: &mobycontainer.HostConfig{Annotations: map[string]string{job.NetworkRateAnnotation: "fast"}}},
		"isolation":    {HostConfig: &mobycontainer.HostConfig{Isolation: "vm"}},
	} {
		if request.Config == nil {
			request.Config = &mobycontainer.Config{}
		}
		if request.HostConfig == nil {
			request.HostConfig = &mobycontainer.HostConfig{}
		}
		if _, err := validate(request.Config, request.HostConfig, everything); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCommandLineOfImage(t *testing.T) {
	req := defaultRequest()
	req.Config.ArgsEscaped = true
	req.Args = []string{"cmd /S /C dir", "a b", "c"}
	spec, err := newSpec(req)
	if err != nil {
		t.Fatal(err)
	}
	if want := `cmd /S /C dir "a b" c`; spec.Process.CommandLine != want || spec.Process.Args != nil {
		t.Errorf("command line %q, arguments %q", spec.Process.CommandLine, spec.Process.Args)
	}
}

func TestIdentityOfRequestWins(t *testing.T) {
	req := defaultRequest()
	req.Identity = string(job.Own)
	spec, err := newSpec(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := spec.Annotations[job.IdentityAnnotation]; got != "own" {
		t.Errorf("the daemon's default: %q", got)
	}
	req.HostConfig.Annotations = map[string]string{job.IdentityAnnotation: "appcontainer"}
	if spec, err = newSpec(req); err != nil {
		t.Fatal(err)
	}
	if got := spec.Annotations[job.IdentityAnnotation]; got != "appcontainer" {
		t.Errorf("the request's: %q", got)
	}
}

func TestExec(t *testing.T) {
	req := defaultRequest()
	req.Config.Env, req.Config.Tty, req.Config.WorkingDir = []string{"A=1", "B=2"}, true, `C:\srv`
	spec, err := newSpec(req)
	if err != nil {
		t.Fatal(err)
	}
	process, err := Exec(spec, ExecRequest{Args: []string{"tool.exe", "x"}, Env: []string{"b=3"}, Cwd: `C:\elsewhere`})
	if err != nil {
		t.Fatal(err)
	}
	want := *spec.Process
	want.Args, want.Env, want.Cwd, want.Terminal = []string{"tool.exe", "x"}, []string{"A=1", "B=2", "b=3"}, `C:\elsewhere`, false
	if diff := cmp.Diff(&want, process); diff != "" {
		t.Error(diff)
	}
	if _, err := Exec(spec, ExecRequest{Args: []string{"x"}, Privileged: true}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("privileged: %v", err)
	}
	if _, err := Exec(spec, ExecRequest{Args: []string{"x"}, Cwd: `\\server\share`}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("directory of the network: %v", err)
	}
}

func TestFreezerNeedsAJob(t *testing.T) {
	drivers, err := New(Config{BinDir: `C:\bin`, ExecRoot: `C:\run`})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drivers.Freezer(job.Name("slipway", "none")); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	if name, _, err := drivers.Runtime(&mobycontainer.HostConfig{}); err != nil || name != `C:\bin\containerd-shim-slipway-job-v1.exe` {
		t.Errorf("%q, %v", name, err)
	}
}
