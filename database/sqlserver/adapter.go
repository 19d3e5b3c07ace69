package sqlserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/database"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	name = "sqlserver"

	// EnvInstance is the variable that an image of an installed instance sets: the instance's name. It is how such an image is recognised.
	EnvInstance = "MSSQL_INSTANCE"
	// EnvPassword is the password of sa, as in Microsoft's images for Linux.
	EnvPassword = "MSSQL_SA_PASSWORD" //nolint:gosec // the variable's name
	// EnvPort is the TCP port, as in Microsoft's images for Linux; 1433 if it is not set.
	EnvPort = "MSSQL_TCP_PORT"

	// DataDir is where an instance keeps its data, as a path in the container ([Instance.Data]).
	DataDir = `C:\MSSQL\DATA`

	administrator = "sa"
	defaultPort   = 1433
	probeTime     = 10 * time.Second
	// stopTime is how long a shutdown may take: it waits for statements that run and writes a checkpoint in every database.
	stopTime = 2 * time.Minute
)

// Engine makes the adapters. Its zero value is ready to use.
type Engine struct{}

var (
	_ database.Engine         = Engine{}
	_ database.Adapter        = (*Adapter)(nil)
	_ database.Cloner         = (*Adapter)(nil)
	_ database.PasswordSetter = (*Adapter)(nil)
	_ database.Describer      = (*Adapter)(nil)
	_ database.Stopper        = (*Adapter)(nil)
)

// Name is "sqlserver".
func (Engine) Name() string { return name }

// Recognise looks for [EnvInstance]. Microsoft's images for Linux do not have it: they are another thing.
func (Engine) Recognise(env []string) bool {
	_, ok := database.Getenv(env, EnvInstance)
	return ok
}

// Adapter makes an adapter; see [database.Engine].
func (Engine) Adapter(env []string) database.Adapter {
	a := &Adapter{port: defaultPort}
	if text, ok := database.Getenv(env, EnvPort); ok {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
			a.port = uint16(n)
		}
	}
	// A clone may be given another password than its data has yet, so every value is a candidate.
	for _, kv := range slices.Backward(env) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == EnvPassword && v != "" && !slices.Contains(a.passwords, v) {
			a.passwords = append(a.passwords, v)
		}
	}
	return a
}

// Adapter is the adapter for one container. It is immutable.
type Adapter struct {
	port      uint16
	passwords []string // of sa, the last given first
}

// Name is "sqlserver".
func (a *Adapter) Name() string { return name }

// DataPaths is [DataDir].
func (a *Adapter) DataPaths(ocispec.ImageConfig) []string { return []string{DataDir} }

// StopDefaults are for a server that [Adapter.Stop] does not reach: CTRL+C shuts it down without a checkpoint (page "SHUTDOWN
// (Transact-SQL)"), which costs a recovery at the next start.
func (a *Adapter) StopDefaults() (string, time.Duration) { return "SIGINT", stopTime }

// connect logs in as sa with the first password that is taken.
func (a *Adapter) connect(ctx context.Context, g database.Guest) (*Server, error) {
	d, ok := g.(database.Dialer)
	if !ok {
		return nil, errdefs.ErrNotImplemented.WithMessage("this kind of container does not let the engine reach a SQL Server within")
	}
	if len(a.passwords) == 0 {
		return nil, errdefs.ErrFailedPrecondition.WithMessage("the engine does not know the password of sa; create the container with -e " + EnvPassword + "=…")
	}
	dial := func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, a.port) }
	var first error
	for _, password := range a.passwords {
		s, err := Connect(ctx, Login{Dial: dial, User: administrator, Password: password})
		if err == nil || !errdefs.IsPermissionDenied(err) {
			return s, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// Ready logs in and asks for databases that are still being recovered. Those that are suspect, offline or restoring stay
// so until somebody acts, and do not count.
func (a *Adapter) Ready(ctx context.Context, g database.Guest) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTime, database.ErrTimeout)
	defer cancel()
	s, err := a.connect(ctx, g)
	if err != nil {
		return unavailable(err)
	}
	defer s.Close()
	count := 0
	if err := s.rows(ctx, recovering(), func(r *sql.Rows) error { return r.Scan(&count) }); err != nil {
		return unavailable(err)
	}
	if count > 0 {
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("%d databases are being recovered", count))
	}
	return nil
}

func unavailable(err error) error {
	if errdefs.IsUnavailable(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
}

// Checkpoint writes the dirty pages of every user database.
func (a *Adapter) Checkpoint(ctx context.Context, g database.Guest) error {
	s, err := a.connect(ctx, g)
	if err != nil {
		return err
	}
	defer s.Close()
	databases, err := s.names(ctx, userDatabases())
	if err != nil {
		return err
	}
	var failed error
	for _, db := range databases {
		if err := s.exec(ctx, use(db)); err != nil { // another session has it for itself
			failed = errors.Join(failed, err)
			continue
		}
		failed = errors.Join(failed, s.exec(ctx, checkpoint()))
	}
	return failed
}

// Describe asks the server for its version and the places and sizes of its files.
func (a *Adapter) Describe(ctx context.Context, g database.Guest) (database.Description, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTime, database.ErrTimeout)
	defer cancel()
	s, err := a.connect(ctx, g)
	if err != nil {
		return database.Description{}, err
	}
	defer s.Close()
	info, err := s.info(ctx)
	if err != nil {
		return database.Description{}, err
	}
	list, err := s.Files(ctx)
	if err != nil {
		return database.Description{}, err
	}
	d := database.Description{Version: clean(info.Version)}
	for _, f := range list {
		d.Bytes += f.Bytes
		if dir := clean(dirOf(f.Path)); dir != "" && !slices.Contains(d.Paths, dir) {
			d.Paths = append(d.Paths, dir)
		}
	}
	return d, nil
}

// SetPassword gives a login a new password; an empty account is sa. It travels encrypted, in the text of the statement; SQL
// Server keeps such statements out of its traces and logs.
func (a *Adapter) SetPassword(ctx context.Context, g database.Guest, account, password string) error {
	s, err := a.connect(ctx, g)
	if err != nil {
		return err
	}
	defer s.Close()
	if account == "" {
		account = administrator
	}
	return s.setPassword(ctx, account, password)
}

// Stop runs SHUTDOWN.
func (a *Adapter) Stop(ctx context.Context, g database.Guest) error {
	s, err := a.connect(ctx, g)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Shutdown(ctx, false)
}
