package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	settleTime = 5 * time.Second
	mebibyte   = 1 << 20
)

// footprint is the proportional memory of an engine's processes in bytes, by program.
type footprint map[string]int64

func (f footprint) sum() (total int64) {
	for _, bytes := range f {
		total += bytes
	}
	return total
}

// memory measures what idle containers cost.
func (b *bench) memory(ctx context.Context) error {
	per := map[*engine]string{}
	total := map[*engine]string{}
	for _, e := range b.engines() {
		before, err := e.footprint()
		if err != nil {
			return err
		}
		for range b.containers {
			if _, _, err := e.docker(ctx, "run", "-d", b.images.busybox, "sleep", "1d"); err != nil {
				return err
			}
		}
		time.Sleep(settleTime)
		after, err := e.footprint()
		if err != nil {
			return err
		}
		var parts []string
		for _, program := range sortedKeys(after) {
			parts = append(parts, fmt.Sprintf("%s %.1f", program, float64(after[program])/mebibyte))
		}
		total[e] = fmt.Sprintf("%.1f MiB without, %.1f with (%s)", float64(before.sum())/mebibyte, float64(after.sum())/mebibyte, strings.Join(parts, ", "))
		per[e] = fmt.Sprintf("%.2f MiB", float64(after.sum()-before.sum())/mebibyte/float64(b.containers))
		if err := e.clear(ctx); err != nil {
			return err
		}
	}
	b.report.add(fmt.Sprintf("memory (PSS) of the engine, with %d idle containers", b.containers), total[b.slipway], total[b.peer])
	b.report.add("memory (PSS) for each of them", per[b.slipway], per[b.peer])
	return nil
}

// footprint sums up the processes that have the engine's directory in their command line. Containers' own have not.
func (e *engine) footprint() (footprint, error) {
	found := footprint{}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		cmdline, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(cmdline), e.dir+"/") && !strings.Contains(string(cmdline), e.dir+"\x00") {
			continue // ended meanwhile, or somebody else's
		}
		program, _, _ := strings.Cut(string(cmdline), "\x00")
		pss, err := proportional(filepath.Join(filepath.Dir(file), "smaps_rollup"))
		if err != nil {
			return nil, err
		}
		found[filepath.Base(program)] += pss
	}
	return found, nil
}

// proportional reads a process's proportional set size in bytes.
func proportional(smaps string) (int64, error) {
	data, err := os.ReadFile(smaps)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no Pss", smaps)
}
