//go:build linux

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/testutil"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// stats is one answer of the API.
func stats(t *testing.T, d *testutil.Daemon, container, query string) mobycontainer.StatsResponse {
	t.Helper()
	var s mobycontainer.StatsResponse
	d.API(t, http.MethodGet, "/v1.47/containers/"+container+"/stats?"+query, nil, http.StatusOK, &s)
	return s
}

// TestStatsShowUse: the figures are those of a container that uses a processor,
// memory, the network and a disk, and not those of one that does not.
func TestStatsShowUse(t *testing.T) {
	t.Parallel()
	const held = 30_000_000
	busy := background(t, "-m", "100m", "--pids-limit", "50", "busybox", "sh", "-c",
		"head -c "+strconv.Itoa(held)+" /dev/zero >/dev/shm/held; dd if=/dev/zero of=/file bs=1M count=4 conv=fsync 2>/dev/null; touch /ready; while :; do :; done")
	quiet := idle(t)
	testutil.Eventually(t, "the container is at work", func() bool { return engine(t).Docker("exec", busy, "test", "-e", "/ready").Code == 0 })
	address := inspect(t, busy, ".NetworkSettings.Networks.bridge.IPAddress")
	docker(t, "exec", quiet, "ping", "-c", "3", "-i", "0.1", "-s", "1000", address)

	s := stats(t, engine(t), busy, "stream=false")
	if s.ID != inspect(t, busy, ".Id") || s.Name != "/"+busy {
		t.Errorf("of %s %s", s.ID, s.Name)
	}
	used := s.CPUStats.CPUUsage.TotalUsage - s.PreCPUStats.CPUUsage.TotalUsage
	host := s.CPUStats.SystemUsage - s.PreCPUStats.SystemUsage
	apart := s.Read.Sub(s.PreRead)
	if apart < 500*time.Millisecond || apart > 10*time.Second {
		t.Errorf("the samples are %s apart", apart)
	}
	if used < uint64(apart)/50 || used > 2*uint64(apart) {
		t.Errorf("a loop used %d ns of a processor in %s", used, apart)
	}
	// All processors together, whose clock has ticks of 10 ms.
	if all := uint64(apart) * uint64(s.CPUStats.OnlineCPUs); host < all/2 || host > 2*all {
		t.Errorf("%d processors of the host spent %d ns in %s", s.CPUStats.OnlineCPUs, host, apart)
	}
	if s.MemoryStats.Usage < held || s.MemoryStats.Limit != 100<<20 {
		t.Errorf("memory: %d of %d", s.MemoryStats.Usage, s.MemoryStats.Limit)
	}
	file := "total_inactive_file"
	if testutil.CgroupV2() {
		file = "inactive_file"
	}
	if _, ok := s.MemoryStats.Stats[file]; !ok {
		t.Errorf("memory has no %s: %v", file, s.MemoryStats.Stats)
	}
	if s.PidsStats.Current < 1 || s.PidsStats.Limit != 50 {
		t.Errorf("pids: %+v", s.PidsStats)
	}
	if eth := s.Networks["eth0"]; len(s.Networks) != 1 || eth.RxBytes < 3000 || eth.TxBytes < 3000 || eth.RxPackets < 3 {
		t.Errorf("networks: %+v", s.Networks)
	}

	s = stats(t, engine(t), quiet, "stream=false&one-shot=true")
	if !s.PreRead.IsZero() || s.PreCPUStats.SystemUsage != 0 || s.Read.IsZero() {
		t.Errorf("one shot: read %s, before %s", s.Read, s.PreRead)
	}
	if s.MemoryStats.Usage > held/2 || s.MemoryStats.Limit < 1<<30 {
		t.Errorf("a quiet container's memory: %d of %d", s.MemoryStats.Usage, s.MemoryStats.Limit)
	}
	if none := stats(t, engine(t), idle(t, "--network", "none"), "stream=false&one-shot=true"); len(none.Networks) != 0 {
		t.Errorf("without a network: %+v", none.Networks)
	}

	// What people see.
	line := docker(t, "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", busy)
	fields := strings.Fields(line)
	cpu, err := strconv.ParseFloat(strings.TrimSuffix(fields[1], "%"), 64)
	if err != nil || fields[0] != busy || cpu < 2 || cpu > 250 || fields[4] != "100MiB" || fields[5] == "0" {
		t.Errorf("docker stats: %q, %v", line, err)
	}
}

// TestStatsOfStopped: zeros, and a stream goes on over the end of the run until
// the container is removed.
func TestStatsOfStopped(t *testing.T) {
	t.Parallel()
	name := idle(t)
	samples, _ := statsStream(t, engine(t), name)
	if s := <-samples; s.Read.IsZero() || s.PidsStats.Current == 0 {
		t.Errorf("running: %+v", s)
	}
	if s := <-samples; s.PreRead.IsZero() || s.PreCPUStats.CPUUsage.TotalUsage == 0 {
		t.Errorf("the second: %+v", s)
	}
	docker(t, "kill", name)
	testutil.Eventually(t, "the samples are empty", func() bool { s := <-samples; return s.Read.IsZero() && s.Name == "/"+name })
	docker(t, "start", name)
	testutil.Eventually(t, "the samples are full again", func() bool { s := <-samples; return s.PidsStats.Current > 0 })
	docker(t, "rm", "-f", name)
	testutil.Eventually(t, "the stream ends", func() bool { _, open := <-samples; return !open })

	name = createOnly(t)
	if s := stats(t, engine(t), name, "stream=false"); s.Name != "/"+name || !s.Read.IsZero() || s.MemoryStats.Limit != 0 {
		t.Errorf("created: %+v", s)
	}
	if got := docker(t, "stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", name); got != "0.00% 0B / 0B 0" {
		t.Errorf("docker stats of a stopped container: %q", got)
	}
	dockerFails(t, "No such container: no-such", "stats", "--no-stream", "no-such")
	status, body, err := engine(t).Request(http.MethodGet, "/v1.47/containers/"+name+"/stats?stream=1&one-shot=1", nil)
	if err != nil || status != http.StatusBadRequest || !strings.Contains(string(body), "cannot have stream=true and one-shot=true") {
		t.Errorf("stream and one-shot: %d %s", status, body)
	}
}

// statsStream follows a container's samples until cancel or the stream ends.
func statsStream(t *testing.T, d *testutil.Daemon, container string) (samples <-chan mobycontainer.StatsResponse, cancel func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	body := d.Stream(ctx, t, "/v1.47/containers/"+container+"/stats")
	ch := make(chan mobycontainer.StatsResponse)
	go func() {
		defer close(ch)
		defer body.Close()
		for lines := bufio.NewScanner(body); lines.Scan(); {
			var s mobycontainer.StatsResponse
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
				t.Errorf("%v: %s", err, lines.Bytes())
				return
			}
			select {
			case ch <- s:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch, stop
}

// TestStatsClientsComeAndGo: clients that never read what they asked for delay
// nobody, and nothing of them is left when they are gone.
func TestStatsClientsComeAndGo(t *testing.T) {
	t.Parallel()
	d := ownEngine(t)
	name := backgroundOn(t, d, "busybox", "sleep", "600")
	goroutines := func() int {
		n, err := strconv.Atoi(d.MustDocker(t, "info", "-f", "{{.NGoroutines}}"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := goroutines()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var bodies []io.Closer
	for range 20 {
		bodies = append(bodies, d.Stream(ctx, t, "/v1.47/containers/"+name+"/stats"))
	}
	samples, stop := statsStream(t, d, name)
	for range 3 {
		if s, open := <-samples; !open || s.PidsStats.Current == 0 {
			t.Errorf("beside clients that do not read: %+v", s)
		}
	}
	d.MustDocker(t, "stop", "-t", "0", name)
	stop()
	cancel()
	for _, body := range bodies {
		_ = body.Close()
	}
	testutil.Eventually(t, "as many goroutines as before", func() bool { return goroutines() <= before })
	d.MustDocker(t, "rm", name)
}
