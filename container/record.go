package container

import (
	"maps"
	"time"

	"slipway/database"

	mobycontainer "github.com/moby/moby/api/types/container"
	mobynetwork "github.com/moby/moby/api/types/network"
)

// Record is what the engine knows of a container and keeps over restarts. A
// published record is never changed; see [container.update].
type Record struct {
	ID           string
	Name         string // without the leading slash
	Created      time.Time
	Image        ImageRef
	Config       *mobycontainer.Config
	HostConfig   *mobycontainer.HostConfig
	Mounts       []Mount
	Networks     map[string]*mobynetwork.EndpointSettings // wanted, by network name
	State        State
	RestartCount int
	Data         *Data `json:",omitempty"` // set for data images only
}

// ImageRef is the image a container was made of.
type ImageRef struct {
	ID       string // public image ID
	Name     string // as the user wrote it
	Chain    string // snapshot under the container's own
	Platform string // operating system
}

// State is where a container is in its life.
type State struct {
	Status     mobycontainer.ContainerState
	Pid        int
	ExitCode   int
	OOMKilled  bool
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	// Stopped is set when a user ended the container, which the restart policy
	// "unless-stopped" respects.
	Stopped bool
	Health  *mobycontainer.Health `json:",omitempty"`
	// Unapplied is set while the limits of the record may not be those of the run.
	Unapplied bool `json:",omitempty"`
	// RemoveVolumes is whether the removal that is under way takes the anonymous
	// volumes along.
	RemoveVolumes bool
}

// begin makes the state that of a run that begins.
func (s *State) begin(pid int, at time.Time) {
	s.Status, s.Pid, s.ExitCode, s.Error = mobycontainer.StateRunning, pid, 0, ""
	s.StartedAt, s.FinishedAt = at.UTC(), time.Time{}
	s.OOMKilled, s.Stopped, s.Unapplied = false, false, false
	if s.Health != nil {
		s.Health = &mobycontainer.Health{Status: mobycontainer.Starting}
	}
}

// Data is the database part of a container whose image holds one.
type Data struct {
	Engine string
	// Paths are the container's paths that belong to the database.
	Paths []string
	// RequestEnv are the variables of the create request alone, of which a
	// clone's password is taken.
	RequestEnv []string
	// Clone is set by a start that found the data to be an image's, by
	// copy-on-write; what would reach out of a copy is switched off then.
	Clone bool
	// Started is set when the first start's work is done.
	Started bool
	// Quiesced tells what was switched off, and which arguments keep it so.
	Quiesced database.Report
}

// Running reports whether a process is there, paused or not.
func (s *State) Running() bool {
	return s.Status == mobycontainer.StateRunning || s.Status == mobycontainer.StatePaused
}

// clone copies a record so that its fields can be replaced. Maps and slices
// inside stay shared: a change replaces them, and never writes into them.
func (r *Record) clone() *Record {
	c := *r
	c.Networks = maps.Clone(r.Networks)
	if r.Data != nil {
		data := *r.Data
		c.Data = &data
	}
	return &c
}
