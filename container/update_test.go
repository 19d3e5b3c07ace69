package container

import (
	"math"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	mobycontainer "github.com/moby/moby/api/types/container"
)

func TestUpdated(t *testing.T) {
	type res = mobycontainer.Resources
	pids := func(n int64) *int64 { return &n }
	disk := []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 10}}
	for name, test := range map[string]struct {
		of, to, want res
		conflict     bool
	}{
		"nothing":                  {of: res{Memory: 1, CPUShares: 2, PidsLimit: pids(3)}, want: res{Memory: 1, CPUShares: 2, PidsLimit: pids(3)}},
		"one of many":              {of: res{CPUShares: 2, CpusetCpus: "0", PidsLimit: pids(3)}, to: res{CPUShares: 4}, want: res{CPUShares: 4, CpusetCpus: "0", PidsLimit: pids(3)}},
		"the rest":                 {to: res{CpusetCpus: "1", CpusetMems: "0", PidsLimit: pids(0), BlkioWeight: 20, BlkioWeightDevice: disk}, want: res{CpusetCpus: "1", CpusetMems: "0", PidsLimit: pids(0), BlkioWeight: 20, BlkioWeightDevice: disk}},
		"first memory limit":       {to: res{Memory: 100}, want: res{Memory: 100, MemorySwap: 200}},
		"huge memory limit":        {to: res{Memory: math.MaxInt64/2 + 1}, want: res{Memory: math.MaxInt64/2 + 1, MemorySwap: -1}},
		"swap without limit":       {of: res{Memory: 10, MemorySwap: -1}, to: res{Memory: 100}, want: res{Memory: 100, MemorySwap: -1}},
		"within the swap limit":    {of: res{Memory: 10, MemorySwap: 200}, to: res{Memory: 100}, want: res{Memory: 100, MemorySwap: 200}},
		"above the swap limit":     {of: res{Memory: 10, MemorySwap: 20}, to: res{Memory: 100}, conflict: true},
		"both limits":              {of: res{Memory: 10, MemorySwap: 20}, to: res{Memory: 100, MemorySwap: -1}, want: res{Memory: 100, MemorySwap: -1}},
		"NanoCPUs after quota":     {of: res{CPUQuota: 1000}, to: res{NanoCPUs: 1}, conflict: true},
		"NanoCPUs after period":    {of: res{CPUPeriod: 1000}, to: res{NanoCPUs: 1}, conflict: true},
		"quota after NanoCPUs":     {of: res{NanoCPUs: 1}, to: res{CPUQuota: 1000}, conflict: true},
		"period after NanoCPUs":    {of: res{NanoCPUs: 1}, to: res{CPUPeriod: 1000}, conflict: true},
		"quota, period after them": {of: res{CPUQuota: 1, CPUPeriod: 2}, to: res{CPUQuota: -1, CPUPeriod: 4}, want: res{CPUQuota: -1, CPUPeriod: 4}},
	} {
		of := &mobycontainer.HostConfig{Resources: test.of}
		got, err := updated(of, mobycontainer.UpdateConfig{Resources: test.to})
		if test.conflict {
			if !errdefs.IsConflict(err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, got.Resources); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if diff := cmp.Diff(test.of, of.Resources); diff != "" {
			t.Errorf("%s: the published record was changed:\n%s", name, diff)
		}
	}
	always := mobycontainer.RestartPolicy{Name: mobycontainer.RestartPolicyAlways}
	if _, err := updated(&mobycontainer.HostConfig{AutoRemove: true}, mobycontainer.UpdateConfig{RestartPolicy: always}); !errdefs.IsConflict(err) {
		t.Errorf("a restart policy beside --rm: %v", err)
	}
	if got, err := updated(&mobycontainer.HostConfig{}, mobycontainer.UpdateConfig{RestartPolicy: always}); err != nil || got.RestartPolicy != always {
		t.Errorf("restart policy: %+v, %v", got, err)
	}
}
