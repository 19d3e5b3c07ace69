// Package database is what the engine knows about the databases in its containers, behind one interface.
//
// A container, image or commit that carries the label [Label] is a data image: its data paths are part of its
// commits, it is healthy when the database answers, it is stopped the way the database wants to be stopped, and
// its clones are made harmless before anybody reaches them. What each of these means for one engine is an
// [Adapter], in a package of its own (database/postgres).
//
// An adapter is a guest. It holds no handle on the container: it acts by running a program inside it ([Guest])
// and, while the container does not run, by a handful of small files beneath the container's root ([Files]).
// Both are given by the caller with every call, and everything they return is treated as written by an
// adversary: sizes and times are limited, and text from the guest is quoted before it goes anywhere.
//
// Adapters keep no state and take no locks; every method may be called from any goroutine. The caller makes sure
// that the methods that change a clone ([Cloner]) are not run twice at the same time for one container.
package database

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// Label marks a data image. Its value is the name of an engine or [Auto].
	Label = "io.slipway.database"
	// Auto as the value of [Label] recognises the engine by the environment of the well-known images.
	Auto = "auto"
	// LabelOutward with the value [OutwardKeep] leaves on what would reach out of a clone.
	LabelOutward = "io.slipway.database.outward"
	// OutwardKeep is the value of [LabelOutward] that opts out.
	OutwardKeep = "keep"
)

// Adapter is one database engine, for one container: it was made with the container's environment.
type Adapter interface {
	// Name is the engine's name as in [Label].
	Name() string

	// DataPaths are the absolute container paths under which mounted volumes belong to the database. A commit
	// takes in the volumes mounted at or under them.
	DataPaths(cfg ocispec.ImageConfig) []string

	// Ready returns nil when the database, started for good, has answered a query. Otherwise the error wraps
	// errdefs.ErrUnavailable and says in one line what the database said. It takes no longer than 10 seconds.
	Ready(ctx context.Context, g Guest) error

	// Checkpoint writes the database's dirty buffers, so that a clone of what is then on the disk recovers
	// quickly. A commit is consistent without it, so the caller logs the error and goes on. It takes no longer
	// than the context allows, 10 seconds at most.
	Checkpoint(ctx context.Context, g Guest) error

	// StopDefaults are the signal and the time after which it is followed by SIGKILL, for a container
	// whose user and image name none.
	StopDefaults() (signal string, timeout time.Duration)
}

// Watcher is implemented by adapters that can tell from the database's files that there is no use in asking it yet.
// Looking is far cheaper than running a program in the container.
type Watcher interface {
	// Starting is true while the files say nothing of a database that takes connections. It may be wrong, for one
	// that keeps its files elsewhere, so the caller asks now and then all the same.
	Starting(f Files) bool
}

// PasswordSetter is implemented by adapters of engines that have passwords.
type PasswordSetter interface {
	// SetPassword gives the account a new password; an empty account is the database's administrator. The
	// password is in no argument list, environment, server log or error.
	SetPassword(ctx context.Context, g Guest, account, password string) error
}

// Stopper is implemented by adapters of engines that are shut down by a statement. It comes before the signal of
// StopDefaults, which is sent if Stop fails or the container has not ended after it.
type Stopper interface {
	// Stop tells the database to shut down cleanly and returns when it has ended its last session, or when the context has ended.
	Stop(ctx context.Context, g Guest) error
}

// Describer is implemented by adapters that can say more about a running database.
type Describer interface {
	Describe(ctx context.Context, g Guest) (Description, error)
}

// Description is what a running database says about itself.
type Description struct {
	// Version is the server's version, "15.4".
	Version string `json:"version"`
	// Recovery is true for a database that replays another one's log and takes no writes.
	Recovery bool `json:"recovery,omitempty"`
	// Paths are the directories in which the database keeps files, in the container: its data directory, and
	// what lies outside of it (tablespaces, a log directory of its own).
	Paths []string `json:"paths,omitempty"`
	// Bytes is the size of all databases.
	Bytes int64 `json:"bytes,omitempty"`
}

// Cloner is implemented by adapters that make a clone harmless.
//
// The order is: BeforeFirstStart (the data is in place, nothing runs), NeedsGate, start, Ready, AfterFirstReady,
// and only then the published ports if NeedsGate was true. All of it belongs to the first start of a container
// whose data came from an image or another volume by copy-on-write. It is not for a volume that merely moved
// from one container to the next. Each step may be repeated after a crash. BeforeFirstStart then reports the same
// again, AfterFirstReady what the first call had not switched off yet.
type Cloner interface {
	// BeforeFirstStart switches off, durably and without starting the database, what would reach out of it.
	// Where there is no data yet it does nothing and its report is empty.
	BeforeFirstStart(ctx context.Context, f Files, r Request) (Report, error)

	// NeedsGate tells whether the ports must stay closed until AfterFirstReady has returned nil.
	NeedsGate(f Files, r Request) bool

	// AfterFirstReady does what needs the running database: it switches off what only a query can, and sets
	// the password that stands in the request.
	AfterFirstReady(ctx context.Context, g Guest, r Request) (Report, error)
}

// Request is a clone's first start as its user asked for it.
type Request struct {
	// ID is the container's id. It tells a repeated first start from the first start of a clone's clone.
	ID string
	// Env are the variables of the create request only, not the image's: passwords are taken from here.
	Env []string
	// Args is the whole argument list that the container will run, entrypoint and command.
	Args []string
	// Labels are the container's labels, the image's included.
	Labels map[string]string
}

// KeepsOutward tells whether the user wants the clone to reach out as its origin does.
func (r Request) KeepsOutward() bool { return r.Labels[LabelOutward] == OutwardKeep }

// Report is what was found in a clone and what was done about it. It is kept with the container and shown by inspect.
type Report struct {
	// Outward lists what reached, or could reach, out of the database. It holds no secrets.
	Outward []Outward `json:"outward,omitempty"`
	// Args must be appended to the container's argument list at this and every later start: they
	// override settings that stand in the argument list itself.
	Args []string `json:"args,omitempty"`
	// Notes are sentences for the user: a stale pid file removed, a collation that changed.
	Notes []string `json:"notes,omitempty"`
}

// Add appends another step's report.
func (r *Report) Add(other Report) {
	r.Outward = append(r.Outward, other.Outward...)
	r.Args = append(r.Args, other.Args...)
	r.Notes = append(r.Notes, other.Notes...)
}

// Outward is one thing that would reach out of a copy of production.
type Outward struct {
	// Kind is what it is, in the engine's terms: "archive_command", "subscription", "cron job".
	Kind string `json:"kind"`
	// Name tells it from others of its kind; empty if there is only one.
	Name string `json:"name,omitempty"`
	// Detail is for people, without passwords.
	Detail string `json:"detail,omitempty"`
	// Off is true if it was switched off, false if it was left on (on request, or because it only
	// acts when it is asked to).
	Off bool `json:"off"`
}
