package container

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"slipway/shim"
	"slipway/state"
	"slipway/volume"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
)

// keptExit is the end of a main process while no daemon ran.
type keptExit struct {
	Code int
	At   time.Time
}

// KeepExits saves the exit codes of tasks that ended while no daemon ran, before
// containerd starts: it takes a shim without processes for a left-over and
// deletes it, and its bundle, where the runc shim wrote the code (exit.json,
// go-runc's Exit). tasks is the directory of the namespace's bundles.
func KeepExits(s *state.Store, tasks string) error {
	bucket, err := state.NewBucket[keptExit](s, "exits")
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(tasks, "*", "exit.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var exit struct {
			Timestamp time.Time
			Status    int
		}
		if err := json.Unmarshal(data, &exit); err != nil {
			continue // cut off by a power failure: it is as lost as the file
		}
		if err := bucket.Put(filepath.Base(filepath.Dir(file)), keptExit{Code: exit.Status, At: exit.Timestamp}); err != nil {
			return err
		}
	}
	return nil
}

// Load reads the records. It must be called once, before the network and the
// volumes are restored, which need to know what runs. It returns the ids of the
// containers whose process is there.
func (m *Manager) Load(ctx context.Context) (live []string, err error) {
	records, err := m.records.All()
	if errdefs.IsDataLoss(err) {
		m.cfg.Logger.ErrorContext(ctx, "some containers' records cannot be read; they are left alone", slog.Any("error", err))
		if err := m.keepUnreadable(records); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if err := m.settleNames(records); err != nil {
		return nil, err
	}
	for id, r := range records {
		m.containers[id] = newContainer(&r, m.records)
		task, err := m.loadTask(ctx, id)
		if err != nil {
			return nil, err
		}
		if task == nil {
			continue
		}
		status, err := task.Status(ctx)
		if err == nil && (status.Status == containerd.Running || status.Status == containerd.Paused) {
			live = append(live, id)
		}
	}
	return live, nil
}

// keepUnreadable notes the containers whose records cannot be read: what they
// have belongs to them until somebody repairs the record.
func (m *Manager) keepUnreadable(readable map[string]Record) error {
	ids, err := m.records.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, ok := readable[id]; !ok {
			m.unreadable = append(m.unreadable, id)
		}
	}
	return nil
}

// VolumeUses are the containers' mounts, for restoring the volumes.
func (m *Manager) VolumeUses(live []string) []volume.Use {
	running := map[string]bool{}
	for _, id := range live {
		running[id] = true
	}
	var uses []volume.Use
	for _, c := range m.all() {
		uses = append(uses, volume.Use{ID: c.id, Points: c.record.Load().Mounts, Running: running[c.id]})
	}
	return uses
}

// loadTask returns containerd's task of a container, or nil.
func (m *Manager) loadTask(ctx context.Context, id string) (containerd.Task, error) {
	c, err := m.cfg.Client.LoadContainer(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	task, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	return task, err
}

// Restore settles what a daemon before this one left: it takes over running
// containers, records the ends of others, finishes removals, and clears away
// what belongs to nothing. It starts those that their policy wants to run.
func (m *Manager) Restore(ctx context.Context) error {
	exits, err := state.NewBucket[keptExit](m.cfg.State, "exits")
	if err != nil {
		return err
	}
	kept, err := exits.All()
	if err != nil && !errdefs.IsDataLoss(err) {
		return err
	}
	if err := errors.Join(m.dropViews(), m.sweep(ctx)); err != nil {
		return err
	}
	var wanted []*container
	for _, c := range m.all() {
		if err := ctx.Err(); err != nil { // the daemon is told to end
			return err
		}
		if err := m.restore(ctx, c, kept); err != nil {
			m.log(c).ErrorContext(ctx, "restoring a container failed", slog.Any("error", err))
			continue
		}
		if _, ok := kept[c.id]; ok { // at once, as it may be started again
			if err := exits.Delete(c.id); err != nil {
				return err
			}
		}
		if m.startsWithDaemon(c) {
			wanted = append(wanted, c)
		}
	}
	m.wg.Go(func() { m.oomEvents(m.background) })
	for _, c := range wanted {
		m.wg.Go(func() {
			if err := m.Start(m.background, c.id); err != nil && !errdefs.IsNotModified(err) {
				m.log(c).WarnContext(ctx, "starting a container with the daemon failed", slog.Any("error", err))
			}
		})
	}
	return nil
}

// startsWithDaemon is Docker's rule for restart policies at a daemon's start.
func (m *Manager) startsWithDaemon(c *container) bool {
	r := c.record.Load()
	if r.State.Status != mobycontainer.StateExited {
		return false
	}
	switch r.HostConfig.RestartPolicy.Name {
	case mobycontainer.RestartPolicyAlways:
		return true
	case mobycontainer.RestartPolicyUnlessStopped:
		return !r.State.Stopped
	case mobycontainer.RestartPolicyOnFailure:
		most := r.HostConfig.RestartPolicy.MaximumRetryCount
		return !r.State.Stopped && r.State.ExitCode != 0 && (most == 0 || r.RestartCount < most)
	default:
		return false
	}
}

func (m *Manager) restore(ctx context.Context, c *container, kept map[string]keptExit) error {
	unlock, err := m.transition(ctx, c, "restore")
	if err != nil {
		return err
	}
	defer unlock()
	if oneOf(c.status(), mobycontainer.StateRemoving, mobycontainer.StateDead) {
		return m.erase(ctx, c)
	}
	task, err := m.loadTask(ctx, c.id)
	if err != nil {
		return err
	}
	if task == nil {
		return m.restoreEnded(ctx, c, nil, kept)
	}
	status, err := task.Status(ctx)
	if err != nil {
		return err
	}
	switch status.Status {
	case containerd.Running, containerd.Paused:
		return m.takeOver(ctx, c, task, status.Status)
	case containerd.Stopped:
		kept[c.id] = keptExit{Code: int(status.ExitStatus), At: status.ExitTime}
		return m.restoreEnded(ctx, c, task, kept)
	default:
		// Created and not started, or unknown: the start that was cut is undone.
		if err := m.dropTask(ctx, c.id); err != nil {
			return err
		}
		return m.restoreEnded(ctx, c, nil, kept)
	}
}

// takeOver continues a run that a daemon before this one began. Only what is
// needed to see its end can fail: without its output, or its root for cp, it can
// still be used and stopped.
func (m *Manager) takeOver(ctx context.Context, c *container, task containerd.Task, status containerd.ProcessStatus) error {
	life := context.WithoutCancel(m.background)
	exited, err := task.Wait(life)
	if err != nil {
		return err
	}
	_, err = m.layers.mount(ctx, c.id)
	m.logged(ctx, c, "the root of a container that was taken over cannot be mounted", err)
	r := c.record.Load()
	if status == containerd.Paused && r.State.Status != mobycontainer.StatePaused {
		// A commit was cut between freezing and thawing.
		if err = task.Resume(ctx); err == nil {
			status = containerd.Running
		}
		m.logged(ctx, c, "a container that a commit had frozen cannot be thawed", err)
	}
	run := newRun(life, task, exited)
	if r.State.Status != mobycontainer.StatePaused {
		m.logged(ctx, c, "a container that a commit had frozen cannot be thawed", m.thawLeftover(ctx, run))
	}
	m.logged(ctx, c, "the output of a container that was taken over is lost", m.takeOverIO(ctx, c, task))
	if r.State.Unapplied { // an update was cut
		m.logged(ctx, c, "the updated limits of a container cannot be applied", run.limit(ctx, &r.HostConfig.Resources))
	}
	err = c.update(func(r *Record) {
		if !r.State.Running() { // its start was cut before it was recorded
			r.State.begin(int(task.Pid()), time.Now())
		}
		r.State.Status, r.State.Unapplied = mobycontainer.StateRunning, false
		if status == containerd.Paused {
			r.State.Status = mobycontainer.StatePaused
		}
	})
	if err != nil {
		return err
	}
	m.settleNetworks(ctx, c)
	c.run.Store(run)
	m.supervise(c, run)
	m.monitor(c, run, r.Data != nil && !r.Data.Started)
	return nil
}

// takeOverIO connects the streams of a run that a daemon before this one began.
func (m *Manager) takeOverIO(ctx context.Context, c *container, task containerd.Task) error {
	io, err := m.reopenIO(ctx, c)
	if err != nil || io.in == nil {
		return err
	}
	return io.in.started(ctx, task)
}

// restoreEnded settles a container that has no process any more.
func (m *Manager) restoreEnded(ctx context.Context, c *container, task containerd.Task, kept map[string]keptExit) error {
	r := c.record.Load()
	if task == nil && !r.State.Running() && r.State.Status != mobycontainer.StateRestarting {
		// It had ended before. A start or an end that was cut may have left something.
		m.removeIfAutomatic(ctx, c)
		return m.clearLeft(ctx, c)
	}
	exit, known := kept[c.id]
	if !known && r.State.Status == mobycontainer.StateRestarting {
		// It had ended before, too, and its restart is still to come.
		m.restartLater(c, firstRestartDelay)
		return m.clearLeft(ctx, c)
	}
	if !known {
		exit = keptExit{Code: r.State.ExitCode, At: r.State.FinishedAt}
		if r.State.Running() { // the host was rebooted, or the shim was killed
			exit = keptExit{Code: 255, At: time.Now()}
		}
	}
	m.recoverOutput(ctx, c)
	run := newRun(context.WithoutCancel(m.background), goneTask{Task: task}, nil)
	m.ended(ctx, c, run, exit.Code, exit.At)
	return nil
}

// clearLeft removes what a start or an end that was cut has left of a run.
func (m *Manager) clearLeft(ctx context.Context, c *container) error {
	return errors.Join(m.dropTask(ctx, c.id), m.cfg.Networks.DeleteSandbox(ctx, c.id), shim.UnmountShm(m.shmPath(c.id)), m.layers.forget(c.id))
}

// recoverOutput has the log keeper write what it still holds of a run that has
// ended.
func (m *Manager) recoverOutput(ctx context.Context, c *container) {
	if _, err := m.reopenIO(ctx, c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log(c).WarnContext(ctx, "the end of the output cannot be read", slog.Any("error", err))
	}
}

// goneTask stands for a task that may not exist any more.
type goneTask struct{ containerd.Task }

// Delete deletes the task if there is one.
func (t goneTask) Delete(ctx context.Context, opts ...containerd.ProcessDeleteOpts) (*containerd.ExitStatus, error) {
	if t.Task == nil {
		return nil, errdefs.ErrNotFound
	}
	return t.Task.Delete(ctx, opts...)
}
