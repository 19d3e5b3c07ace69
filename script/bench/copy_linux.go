package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// copyRuns are few, because a copy takes its time.
const copyRuns = 3

// copies has the peer do the same: it copies the volume's files and starts a container on them.
func (d *database) copies(ctx context.Context) error {
	s, _, err := d.run(ctx, d.slipway, "probe", d.image)
	if err != nil {
		return err
	}
	source, err := d.imageData(ctx, s.container)
	if err != nil {
		return err
	}
	if _, _, err := d.slipway.docker(ctx, "rm", "-fv", s.container); err != nil {
		return err
	}
	runs := copyRuns
	if d.size > 1 {
		runs = 1
	}
	var query series
	for i := range runs {
		name := "copy-" + strconv.Itoa(i)
		begin := time.Now()
		if _, _, err := d.peer.docker(ctx, "volume", "create", name); err != nil {
			return err
		}
		place, _, err := d.peer.docker(ctx, "volume", "inspect", "-f", "{{.Mountpoint}}", name)
		if err != nil {
			return err
		}
		if _, _, err := execute(exec.CommandContext(ctx, "cp", "-aT", source, place)); err != nil {
			return err
		}
		s, _, err := d.run(ctx, d.peer, name, "-v", name+":"+filepath.Clean(dataPath), d.images.postgres, "-c", wal, "-c", "recovery_init_sync_method=syncfs")
		if err == nil {
			err = s.await(ctx, factsSQL)
		}
		if err != nil {
			return err
		}
		query.addTime(time.Since(begin))
		if err := d.peer.clear(ctx); err != nil {
			return err
		}
	}
	d.report.add(d.name("clone to first query, against a copied volume"), d.query.String(),
		fmt.Sprintf("%s, %.0f × as long", query, query.median()/d.query.median()))
	return nil
}
