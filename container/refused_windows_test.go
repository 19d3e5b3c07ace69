package container

import (
	"testing"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

func TestCommitOfARunningContainerIsRefused(t *testing.T) {
	r := &Record{Name: "x"}
	r.State.Status = mobycontainer.StateRunning
	if err := checkCommit(r); !errdefs.IsConflict(err) {
		t.Errorf("running: %v", err)
	}
	r.State.Status = mobycontainer.StateExited
	if err := checkCommit(r); err != nil {
		t.Errorf("stopped: %v", err)
	}
}

func TestMountsAreRefused(t *testing.T) {
	if err := checkStorage(&mobycontainer.HostConfig{Binds: []string{`v:C:\v`}}); !errdefs.IsNotImplemented(err) {
		t.Errorf("a volume: %v", err)
	}
	if err := checkStorage(&mobycontainer.HostConfig{}); err != nil {
		t.Errorf("none: %v", err)
	}
}

func TestAddressIsTold(t *testing.T) {
	cfg := &mobycontainer.Config{Entrypoint: []string{"postgres"}, Cmd: []string{"-h", "%slipway_address%"}}
	if listensOnHost(&Record{Config: cfg}) {
		t.Error("a command with the address is taken to listen on the host's")
	}
	if !listensOnHost(&Record{Config: &mobycontainer.Config{Cmd: []string{"postgres"}}}) {
		t.Error("a command without the address is not taken to listen on the host's")
	}
	if got := withAddress("a%Slipway_Address%:1 %SLIPWAY_ADDRESS%", "127.64.0.2"); got != "a127.64.0.2:1 127.64.0.2" {
		t.Errorf("%q", got)
	}
}
