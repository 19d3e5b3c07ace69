package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"slipway/clonefs"
	"slipway/database"
	"slipway/image"
	"slipway/internal/failpoint"
	"slipway/internal/span"

	"github.com/containerd/errdefs"
	distref "github.com/distribution/reference"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
	mobymount "github.com/moby/moby/api/types/mount"
)

// A checkpoint shortens the recovery of the clones. It may have much to write, and
// runs beside the pre-copy. If that takes long, because the files are in very many
// pieces, a second one writes what came meanwhile, and is short or given up.
const (
	checkpointTimeout       = 10 * time.Second
	secondCheckpointAfter   = 5 * time.Second
	secondCheckpointTimeout = 500 * time.Millisecond
)

// outcome is what a commit did, for its event, history and log.
type outcome struct {
	frozen  time.Duration
	stats   clonefs.Stats
	volumes []string
	mode    string
}

// checkpoint is one that the database was asked for, and may be under way.
type checkpoint struct {
	asked time.Time
	await func() bool // reports whether it was made
	end   func()      // gives it up if it is under way
}

// Commit makes an image of the container's files and, for a data image, of the
// volumes under its data paths. All files are of one moment: the processes are
// frozen while they are taken. It returns the image's ID, and the image is
// durable then.
func (m *Manager) Commit(ctx context.Context, ref string, opts CommitOptions) (string, error) {
	c, err := m.find(ref)
	if err != nil {
		return "", err
	}
	if err := m.cfg.Pool.CheckSpace(ctx); err != nil {
		return "", err
	}
	cp := m.beginCheckpoint(ctx, c)
	defer cp.end()
	unlock, err := m.transition(ctx, c, "commit")
	if err != nil {
		return "", err
	}
	defer unlock()
	r := c.record.Load()
	if err := checkCommit(r); err != nil {
		return "", err
	}
	if oneOf(r.State.Status, mobycontainer.StateRemoving, mobycontainer.StateDead) {
		return "", errdefs.ErrConflict.WithMessage(fmt.Sprintf("You cannot commit container %s which is %s", c.id, r.State.Status))
	}
	if r.Data != nil && r.State.Status == mobycontainer.StateRunning && !opts.Pause {
		return "", errdefs.ErrConflict.WithMessage(fmt.Sprintf(
			"container %s holds a running %s database: committing it with --pause=false would tear its files; leave the option out (it is frozen for milliseconds) or stop it first",
			r.Name, r.Data.Engine))
	}
	// Not held by a lock: the new image may take this one's name away, which needs
	// it. A lease keeps what the commit needs of it.
	parent, err := m.cfg.Images.Get(ctx, r.Image.ID)
	if err != nil {
		return "", fmt.Errorf("the image of container %s: %w", r.Name, err)
	}
	cfg, err := commitConfig(r, opts)
	if err != nil {
		return "", err
	}
	result := &outcome{mode: "stopped"}
	request := image.CommitRequest{
		Parent: parent, Config: cfg, CreatedBy: strings.Join(arguments(r.Config), " "), Author: opts.Author, Ref: reference(opts.Repo, opts.Tag),
		Comment: opts.Comment,
		Fill: func(ctx context.Context, upper string) error {
			return m.takeFiles(ctx, c, upper, opts.Pause, cp, result)
		},
	}
	if r.Data != nil {
		request.Comment = strings.TrimSpace(opts.Comment + " (" + dataComment(r) + ")")
	}
	failpoint.Hit("container.commit.begin")
	img, err := m.cfg.Images.Commit(ctx, request)
	if err != nil {
		return "", err
	}
	failpoint.Hit("container.commit.done")
	m.committed(ctx, c, img, opts, result)
	return img.ID.String(), nil
}

// dataComment says in the history which way a database was committed and which
// of its volumes are in the image.
func dataComment(r *Record) string {
	text := r.Data.Engine + " files of a stopped container"
	switch r.State.Status {
	case mobycontainer.StateRunning:
		text = r.Data.Engine + " files of one frozen moment"
	case mobycontainer.StatePaused:
		text = r.Data.Engine + " files of a paused container"
	default:
	}
	var included, left []string
	for _, mount := range r.Mounts {
		switch {
		case !r.isData(mount):
		case mount.Type == mobymount.TypeVolume:
			included = append(included, mount.Destination)
		default:
			left = append(left, mount.Destination)
		}
	}
	if len(included) > 0 {
		text += ", with " + strings.Join(included, ", ")
	}
	if len(left) > 0 {
		text += ", without the bind at " + strings.Join(left, ", ")
	}
	return text
}

func reference(repo, tag string) string {
	if repo == "" || tag == "" {
		return repo
	}
	return repo + ":" + tag
}

// familiarName is an image's name as people write it.
func familiarName(name string) string {
	if named, err := distref.ParseNormalizedNamed(name); err == nil {
		return distref.FamiliarString(named)
	}
	return name
}

// committed tells the world.
func (m *Manager) committed(ctx context.Context, c *container, img *image.Image, opts CommitOptions, o *outcome) {
	m.publish(c, mobyevents.ActionCommit, map[string]string{
		"comment": opts.Comment, "imageID": img.ID.String(), "imageRef": familiarName(reference(opts.Repo, opts.Tag)),
		"mode": o.mode, "freeze_ms": strconv.FormatFloat(float64(o.frozen.Microseconds())/1000, 'f', 1, 64),
		"volumes": strings.Join(o.volumes, ","),
	})
	m.log(c).InfoContext(ctx, "committed",
		slog.String("image", img.ID.String()), slog.String("mode", o.mode), slog.Duration("frozen", o.frozen),
		slog.Int64("files", o.stats.Files), slog.Int64("bytes_copied", o.stats.Finish.BytesCopied), slog.Any("volumes", o.volumes))
}

// commitConfig is the new image's configuration: the container's, changed by
// what the request says.
func commitConfig(r *Record, opts CommitOptions) (image.RunConfig, error) {
	base := *r.Config
	if strings.HasPrefix(r.ID, base.Hostname) {
		base.Hostname = ""
	}
	if opts.Config != nil {
		base = overlayConfig(base, opts.Config)
	}
	cfg := image.FromContainerConfig(&base)
	if err := image.ApplyChanges(&cfg, opts.Changes); err != nil {
		return cfg, err
	}
	return cfg, nil
}

// overlayConfig replaces what a request for a commit sets itself.
func overlayConfig(base mobycontainer.Config, over *mobycontainer.Config) mobycontainer.Config {
	if over.User != "" {
		base.User = over.User
	}
	if over.WorkingDir != "" {
		base.WorkingDir = over.WorkingDir
	}
	if len(over.Cmd) > 0 {
		base.Cmd = over.Cmd
	}
	if over.Entrypoint != nil {
		base.Entrypoint = over.Entrypoint
	}
	if over.Healthcheck != nil {
		base.Healthcheck = over.Healthcheck
	}
	if over.StopSignal != "" {
		base.StopSignal = over.StopSignal
	}
	base.Env = mergeEnv(base.Env, over.Env)
	base.Labels = joined(base.Labels, over.Labels)
	base.ExposedPorts = joined(base.ExposedPorts, over.ExposedPorts)
	base.Volumes = joined(base.Volumes, over.Volumes)
	return base
}

func (m *Manager) beginCheckpoint(ctx context.Context, c *container) *checkpoint {
	ctx, cancel := context.WithCancelCause(ctx)
	made := make(chan bool, 1)
	go func() { made <- m.checkpoint(ctx, c, checkpointTimeout) }()
	await := sync.OnceValue(func() bool { return <-made })
	return &checkpoint{asked: time.Now(), await: await, end: func() { cancel(nil); await() }}
}

// checkpoint asks the database for one, and reports whether it was made.
func (m *Manager) checkpoint(ctx context.Context, c *container, timeout time.Duration) bool {
	r, run := c.record.Load(), c.run.Load()
	if r.Data == nil || run == nil || r.State.Status != mobycontainer.StateRunning {
		return false
	}
	a, err := m.adapter(r)
	if err != nil || a == nil {
		return false
	}
	defer span.Start(ctx, "checkpoint")()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, database.ErrTimeout)
	defer cancel()
	if err := a.Checkpoint(ctx, guest{m: m, c: c, run: run}); err != nil {
		m.log(c).InfoContext(ctx, "no checkpoint before the commit; clones will recover for longer", slog.Any("error", err))
		return false
	}
	return true
}

// takeFiles copies the container's layer, and a data image's volumes, into the
// new layer's directory, all under one freeze.
func (m *Manager) takeFiles(ctx context.Context, c *container, upper string, pause bool, cp *checkpoint, o *outcome) (err error) {
	r := c.record.Load()
	source, _, err := m.layers.dirs(ctx, c.id)
	if err != nil {
		return err
	}
	alone, err := m.ownData(r)
	if err != nil {
		return err
	}
	parts, err := m.dataParts(ctx, r, upper)
	if err != nil {
		return err
	}
	trees := []clonefs.Tree{{Src: source, Dst: upper}}
	for _, p := range parts {
		trees = append(trees, p.tree)
	}
	for _, v := range r.dataVolumes() {
		o.volumes = append(o.volumes, v.Destination)
	}
	copying := clonefs.NewCopy(trees, clonefs.Options{})
	defer func() {
		if err != nil {
			err = errors.Join(err, copying.Discard(context.WithoutCancel(ctx)))
		}
	}()
	run := c.run.Load()
	if run == nil || !pause || r.State.Status != mobycontainer.StateRunning {
		if run != nil {
			o.mode = string(r.State.Status)
		}
		if o.stats, err = copying.Finish(ctx); err != nil {
			return err
		}
	} else if err := m.takeFrozen(ctx, c, run, copying, cp, o); err != nil {
		return err
	}
	if err := alone(); err != nil {
		return err
	}
	failpoint.Hit("container.commit.taken")
	if err := dropMountPoints(upper); err != nil {
		return err
	}
	return m.placeParts(ctx, c, parts, upper)
}

// dropMountPoints removes the empty files that the runtime made to mount the
// engine's own files on. They are none of the container's. The folder that they
// lie in may be a link by now, which must not be followed on the host.
func dropMountPoints(upper string) error {
	for _, name := range ownFiles {
		if !isPlainDir(upper, filepath.Dir(name)) {
			continue
		}
		path := filepath.Join(upper, name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || info.Size() > 0 {
			continue // none was made, or the image has its own
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// takeFrozen copies what can be copied beforehand, and the rest while the
// container's processes stand still.
func (m *Manager) takeFrozen(ctx context.Context, c *container, run *run, copying *clonefs.Copy, cp *checkpoint, o *outcome) error {
	if err := copyBeforehand(ctx, copying); err != nil {
		return err
	}
	if cp.await() {
		if time.Since(cp.asked) > secondCheckpointAfter {
			m.checkpoint(ctx, c, secondCheckpointTimeout)
		}
		// What they wrote is copied beforehand as well.
		if err := copyBeforehand(ctx, copying); err != nil {
			return err
		}
	}
	o.mode = "frozen"
	began := time.Now()
	goOn, err := m.standStill(ctx, run)
	if errors.Is(err, errRunEnded) {
		o.mode = "stopped" // meanwhile: nothing writes any more
		o.stats, err = copying.Finish(ctx)
		return err
	}
	if err != nil {
		return fmt.Errorf("freezing container %s: %w", c.id, err)
	}
	failpoint.Hit("container.commit.frozen")
	finished := span.Start(ctx, "copy frozen")
	o.stats, err = copying.Finish(ctx)
	finished()
	thawed := goOn()
	o.frozen = time.Since(began)
	return errors.Join(err, thawed)
}

func copyBeforehand(ctx context.Context, copying *clonefs.Copy) error {
	defer span.Start(ctx, "copy beforehand")()
	return copying.Prepare(ctx)
}
