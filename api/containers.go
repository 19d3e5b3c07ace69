package api

import (
	"context"
	"encoding/json"
	"net/http"

	"slipway/container"

	mobycontainer "github.com/moby/moby/api/types/container"
)

func (s *Server) listContainers(ctx context.Context, w *response, r *request) error {
	filters, err := r.query.filters()
	if err != nil {
		return err
	}
	limit, err := r.query.number("limit")
	if err != nil {
		return err
	}
	opts := container.ListOptions{All: r.query.flag("all"), Size: r.query.flag("size"), Filters: filters}
	if limit != nil {
		opts.Limit = *limit
	}
	list, err := s.cfg.Containers.List(ctx, opts)
	if err != nil {
		return err
	}
	if list == nil {
		list = []mobycontainer.Summary{}
	}
	return writeShaped(w, r.version, viewContainerSummary, list)
}

func (s *Server) inspectContainer(ctx context.Context, w *response, r *request) error {
	c, err := s.cfg.Containers.Inspect(ctx, r.name(), r.query.flag("size"))
	if err != nil {
		return err
	}
	return writeShaped(w, r.version, viewContainer, c)
}

func (s *Server) startContainer(ctx context.Context, w *response, r *request) error {
	// An empty JSON object is what some clients send for "nothing".
	const nothing = 7
	if r.ContentLength > nothing || r.ContentLength == -1 {
		return invalidf("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if r.query.get("checkpoint") != "" {
		return notImplemented("starting from a checkpoint")
	}
	if err := s.cfg.Containers.Start(ctx, r.name()); err != nil {
		return err
	}
	return w.noContent()
}

// stopOptions reads what stop and restart have in common.
func stopOptions(r *request) (container.StopOptions, error) {
	var opts container.StopOptions
	if !r.version.before(42) {
		opts.Signal = r.query.get("signal")
	}
	timeout, err := r.query.number("t")
	opts.Timeout = timeout
	return opts, err
}

func (s *Server) stopContainer(ctx context.Context, w *response, r *request) error {
	opts, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.cfg.Containers.Stop(ctx, r.name(), opts); err != nil {
		return err
	}
	return w.noContent()
}

func (s *Server) restartContainer(ctx context.Context, w *response, r *request) error {
	opts, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.cfg.Containers.Restart(ctx, r.name(), opts); err != nil {
		return err
	}
	return w.noContent()
}

func (s *Server) killContainer(ctx context.Context, w *response, r *request) error {
	if err := s.cfg.Containers.Kill(ctx, r.name(), r.query.get("signal")); err != nil {
		return err
	}
	return w.noContent()
}

func (s *Server) pauseContainer(ctx context.Context, w *response, r *request) error {
	if err := s.cfg.Containers.Pause(ctx, r.name()); err != nil {
		return err
	}
	return w.noContent()
}

func (s *Server) unpauseContainer(ctx context.Context, w *response, r *request) error {
	if err := s.cfg.Containers.Unpause(ctx, r.name()); err != nil {
		return err
	}
	return w.noContent()
}

func (s *Server) renameContainer(ctx context.Context, w *response, r *request) error {
	if err := s.cfg.Containers.Rename(ctx, r.name(), r.query.get("name")); err != nil {
		return err
	}
	return w.noContent()
}

func (s *Server) removeContainer(ctx context.Context, w *response, r *request) error {
	err := s.cfg.Containers.Remove(ctx, r.name(), container.RemoveOptions{
		Force:   r.query.flag("force"),
		Volumes: r.query.flag("v"),
		Link:    r.query.flag("link"),
	})
	if err != nil {
		return err
	}
	return w.noContent()
}

// terminalSize reads the parameters of both resize endpoints.
func terminalSize(r *request) (height, width uint16, err error) {
	if height, err = r.query.size("h", "height"); err != nil {
		return 0, 0, err
	}
	width, err = r.query.size("w", "width")
	return height, width, err
}

func (s *Server) resizeContainer(ctx context.Context, w *response, r *request) error {
	height, width, err := terminalSize(r)
	if err != nil {
		return err
	}
	if err := s.cfg.Containers.Resize(ctx, r.name(), height, width); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// waitContainer sends the header as soon as it is waiting: clients start the
// container only then.
func (s *Server) waitContainer(ctx context.Context, w *response, r *request) error {
	condition := mobycontainer.WaitCondition(r.query.get("condition"))
	switch condition {
	case "":
		condition = mobycontainer.WaitConditionNotRunning
	case mobycontainer.WaitConditionNotRunning, mobycontainer.WaitConditionNextExit, mobycontainer.WaitConditionRemoved:
	default:
		return invalidf("invalid condition: %q", condition)
	}
	result, err := s.cfg.Containers.Wait(ctx, r.name(), condition)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	out := newStreamWriter(ctx, w, true)
	defer out.close()
	if err := out.start(); err != nil {
		return err
	}
	select {
	case res, ok := <-result:
		if !ok && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !ok {
			res = mobycontainer.WaitResponse{StatusCode: -1, Error: &mobycontainer.WaitExitError{Message: "waiting for the container ended without a result"}}
		}
		return json.NewEncoder(out).Encode(res)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Server) containerChanges(ctx context.Context, w *response, r *request) error {
	changes, err := s.cfg.Containers.Changes(ctx, r.name())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, changes) // null if there are none, as Docker has it
}

func (s *Server) commitContainer(ctx context.Context, w *response, r *request) error {
	// Only a body that holds a configuration replaces the container's.
	var body struct{ *mobycontainer.Config }
	if err := readJSON(w, r.Request, &body); err != nil {
		return err
	}
	ref, err := r.query.repoTag()
	if err != nil {
		return err
	}
	opts := container.CommitOptions{
		Comment: r.query.get("comment"),
		Author:  r.query.get("author"),
		Pause:   r.query.flagUnlessOff("pause"),
		Changes: r.query["changes"],
		Config:  body.Config,
	}
	if ref != nil {
		opts.Repo, opts.Tag = ref.Name(), ref.Tag()
	}
	id, err := s.cfg.Containers.Commit(ctx, r.query.get("container"), opts)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, mobycontainer.CommitResponse{ID: id})
}
