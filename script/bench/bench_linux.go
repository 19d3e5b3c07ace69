package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bench is a measurement under way.
type bench struct {
	*options
	slipway, peer *engine
	postgres      string // directory of the host's PostgreSQL programs
	images        images
	report        report
}

// images are the names of the images that both engines have.
type images struct{ busybox, postgres string }

func newBench(ctx context.Context, o *options) (_ *bench, err error) {
	b := &bench{options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close(ctx))
		}
	}()
	if b.bin, err = filepath.Abs(o.bin); err != nil {
		return nil, err
	}
	if b.postgres, err = hostPostgres(); err != nil {
		return nil, err
	}
	if b.slipway, err = startSlipway(ctx, b.bin, filepath.Join(o.root, "slipway")); err != nil {
		return nil, err
	}
	if b.peer, err = startPeer(ctx, b.bin, filepath.Join(o.root, "peer")); err != nil {
		return nil, err
	}
	for _, e := range b.engines() {
		if err := e.clear(ctx); err != nil { // an earlier run was cut short
			return nil, err
		}
	}
	if b.images.busybox, err = b.load(ctx, "busybox"); err != nil {
		return nil, err
	}
	b.images.postgres, err = b.load(ctx, "postgresql")
	return b, err
}

func (b *bench) engines() []*engine { return []*engine{b.slipway, b.peer} }

// load makes an image of the host's software and loads the same archive into both engines.
func (b *bench) load(ctx context.Context, software string) (name string, err error) {
	archive := filepath.Join(b.root, software+".tar")
	fmt.Fprintf(os.Stderr, "bench: image of %s\n", software)
	if _, _, err := execute(exec.CommandContext(ctx, filepath.Join(b.bin, "slipway"), "image", "from-host", software, "--output", archive)); err != nil {
		return "", err
	}
	for _, e := range b.engines() {
		out, _, err := e.docker(ctx, "load", "-i", archive)
		if err != nil {
			return "", err
		}
		_, name, _ = strings.Cut(out, "Loaded image: ")
	}
	if name == "" {
		return "", fmt.Errorf("the archive of %s has no name", software)
	}
	return name, os.Remove(archive)
}

// hostPostgres finds the programs of the newest PostgreSQL that is installed.
func hostPostgres() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(dirs) == 0 {
		return "", errors.New("no PostgreSQL is installed: script/setup installs it")
	}
	return dirs[len(dirs)-1], nil
}

// close stops the engines and removes what they had, also when ctx has ended. If they did not come up, their logs stay.
func (b *bench) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, e := range b.engines() {
		if e == nil || e.daemon == nil {
			continue
		}
		errs = append(errs, e.clear(ctx), e.stop(), e.cleanUp(ctx))
		if b.images.postgres != "" {
			errs = append(errs, os.RemoveAll(e.data)) //nolint:gosec // in the directory that the user names
		}
	}
	return errors.Join(errs...)
}
