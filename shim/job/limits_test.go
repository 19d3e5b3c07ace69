package job

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestLimitsOf(t *testing.T) {
	windows := func(r specs.WindowsResources) *specs.Spec {
		return &specs.Spec{Windows: &specs.Windows{Resources: &r}}
	}
	annotated := func(name, value string) *specs.Spec { return &specs.Spec{Annotations: map[string]string{name: value}} }
	for name, test := range map[string]struct {
		spec *specs.Spec
		want Limits
	}{
		"nothing":   {&specs.Spec{}, Limits{}},
		"memory":    {windows(specs.WindowsResources{Memory: &specs.WindowsMemoryResources{Limit: new(uint64(5))}}), Limits{Memory: 5}},
		"maximum":   {windows(specs.WindowsResources{CPU: &specs.WindowsCPUResources{Maximum: new(uint16(2500)), Shares: new(uint16(1))}}), Limits{CPURate: 2500}},
		"count":     {windows(specs.WindowsResources{CPU: &specs.WindowsCPUResources{Count: new(uint64(2))}}), Limits{CPURate: 5000}},
		"all":       {windows(specs.WindowsResources{CPU: &specs.WindowsCPUResources{Count: new(uint64(9))}}), Limits{CPURate: 10000}},
		"shares":    {windows(specs.WindowsResources{CPU: &specs.WindowsCPUResources{Shares: new(uint16(5000))}}), Limits{CPUWeight: 5}},
		"most":      {windows(specs.WindowsResources{CPU: &specs.WindowsCPUResources{Shares: new(uint16(10000))}}), Limits{CPUWeight: 9}},
		"least":     {windows(specs.WindowsResources{CPU: &specs.WindowsCPUResources{Shares: new(uint16(1))}}), Limits{CPUWeight: 1}},
		"disk":      {windows(specs.WindowsResources{Storage: &specs.WindowsStorageResources{Bps: new(uint64(7)), Iops: new(uint64(8))}}), Limits{IOBandwidth: 7, IORate: 8}},
		"processes": {annotated(ProcessesAnnotation, "12"), Limits{Processes: 12}},
		"network":   {annotated(NetworkRateAnnotation, "5000000000"), Limits{NetworkRate: 5000000000}},
		"priority":  {annotated(PriorityAnnotation, "below-normal"), Limits{Priority: 0x4000}},
	} {
		got, err := LimitsOf(test.spec, 4)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, spec := range map[string]*specs.Spec{
		ProcessesAnnotation: annotated(ProcessesAnnotation, "0"), NetworkRateAnnotation: annotated(NetworkRateAnnotation, "1 Mbit"),
		PriorityAnnotation: annotated(PriorityAnnotation, "real-time"),
		"CPU rate":         windows(specs.WindowsResources{CPU: &specs.WindowsCPUResources{Maximum: new(uint16(10001))}}),
	} {
		if _, err := LimitsOf(spec, 4); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIdentityOf(t *testing.T) {
	for value, want := range map[string]Identity{"": Account, "own": Own, "account": Account, "appcontainer": AppContainer} {
		if got, err := IdentityOf(&specs.Spec{Annotations: map[string]string{IdentityAnnotation: value}}); err != nil || got != want {
			t.Errorf("%q: %q, %v", value, got, err)
		}
	}
	if _, err := IdentityOf(&specs.Spec{Annotations: map[string]string{IdentityAnnotation: "system"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v", err)
	}
}

func TestMemoryCountsSharedOnce(t *testing.T) {
	const m = 1 << 20
	// Three servers that share 100 MiB, of which they have touched different parts.
	all := []usage{{private: 10 * m, resident: 110 * m}, {private: 5 * m, resident: 30 * m}, {private: 20 * m, resident: 15 * m}}
	if got := memory(all); got != (35+100)*m {
		t.Errorf("%d MiB, want 135", got/m)
	}
	if got := memory(nil); got != 0 {
		t.Errorf("nothing uses %d", got)
	}
}

func TestExcess(t *testing.T) {
	all := []usage{{pid: 1, created: 10}, {pid: 2, created: 40}, {pid: 3, created: 20}, {pid: 4, created: 30}}
	for _, test := range []struct {
		limit, first uint32
		want         []uint32
	}{
		{0, 1, nil},
		{4, 1, nil},
		{3, 1, []uint32{2}},
		{2, 1, []uint32{2, 4}},
		{3, 2, []uint32{4}},       // the newest is the first process
		{1, 1, []uint32{2, 4, 3}}, // nobody else
	} {
		if diff := cmp.Diff(test.want, excess(all, test.limit, test.first)); diff != "" {
			t.Errorf("limit %d, first %d: %s", test.limit, test.first, diff)
		}
	}
}

func TestBackendsCheck(t *testing.T) {
	none := Backends{None, None, None, None, None, None}
	for text, l := range map[string]Limits{
		"--memory": {Memory: 1}, "--pids-limit": {Processes: 1}, "--cpus": {CPURate: 1}, "--cpu-shares": {CPUWeight: 1},
		PriorityAnnotation: {Priority: 1}, NetworkRateAnnotation: {NetworkRate: 1}, "--io-maxbandwidth": {IOBandwidth: 1}, "--io-maxiops": {IORate: 1},
	} {
		if err := none.Check(l); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := none.Check(Limits{}); err != nil {
		t.Error(err)
	}
	if err := (Backends{Guard, Guard, Kernel, Kernel, Kernel, Kernel}).Check(Limits{1, 1, 1, 1, 1, 1, 1, 1}); err != nil {
		t.Error(err)
	}
}
