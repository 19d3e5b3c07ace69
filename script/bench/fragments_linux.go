package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	scatterRounds = 12
	scatterRows   = 50_000
)

// fragmented measures the commit of a clone whose files random writes have split.
func (d *database) fragmented(ctx context.Context) error {
	s, _, err := d.run(ctx, d.slipway, "fragmented", d.image)
	if err != nil {
		return err
	}
	if err := s.await(ctx, factsSQL); err != nil {
		return err
	}
	extents := 0
	for range scatterRounds {
		rows := d.size * scalePerGB * 100_000
		sql := fmt.Sprintf("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid IN (SELECT 1 + (random() * %d)::int FROM generate_series(1, %d))", rows, scatterRows)
		if err := errors.Join(s.exec(ctx, sql), s.exec(ctx, "CHECKPOINT")); err != nil {
			return err
		}
		if extents, err = d.countExtents(ctx, s); err != nil {
			return err
		}
		if extents >= manyExtents {
			break
		}
	}
	c, err := d.commits(ctx, s, commits)
	if err != nil {
		return err
	}
	d.report.add(d.name(fmt.Sprintf("docker commit of a clone with %d extents, pgbench writing", extents)), c.took.String(), "")
	if extents < manyExtents {
		d.report.add(d.name("… of that frozen (for 150,000 extents it takes a larger database)"), c.frozen.String(), "")
		return nil
	}
	d.report.judge(d.name("… of that frozen"), c.frozen.String(), "", "< 300 ms", c.frozen.percentile(1) < maxFragmented)
	return nil
}

// countExtents counts the extents of the clone's files.
func (d *database) countExtents(ctx context.Context, s server) (int, error) {
	unix.Sync()
	source, _, err := d.slipway.docker(ctx, "inspect", "-f", `{{range .Mounts}}{{if eq .Destination "`+dataPath+`"}}{{.Source}}{{end}}{{end}}`, s.container)
	if err != nil {
		return 0, err
	}
	total := 0
	err = filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		n, err := extentsOf(path)
		total += n
		return err
	})
	return total, err
}

// extentsOf counts a file's extents.
func extentsOf(path string) (int, error) {
	const fiemap = 0xc020660b // the ioctl's number
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// With no room for extents the kernel only counts them.
	request := struct {
		start, length                  uint64
		flags, mapped, count, reserved uint32
	}{length: ^uint64(0)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&request))); errno != 0 { //nolint:gosec // an ioctl's argument
		return 0, fmt.Errorf("extents of %s: %w", path, errno)
	}
	return int(request.mapped), nil
}
