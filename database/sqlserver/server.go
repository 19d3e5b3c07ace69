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
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

// serverInfo is what a server says of itself.
type serverInfo struct{ Version, Edition, Instance string }

// major is the first number of the version: 16 for SQL Server 2022.
func (i serverInfo) major() int {
	first, _, _ := strings.Cut(i.Version, ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}

func (s *Server) info(ctx context.Context) (serverInfo, error) {
	var v, e, i sql.NullString
	err := s.rows(ctx, version(), func(r *sql.Rows) error { return r.Scan(&v, &e, &i) })
	return serverInfo{Version: v.String, Edition: e.String, Instance: i.String}, err
}

// File is a file of a database as master has it.
type File struct {
	// Database is its database's name and ID the database's number: 1 master, 2 tempdb, 3 model, 4 msdb.
	Database string
	ID       int
	// Name is the file's logical name, Path its place.
	Name, Path string
	// Bytes is its size.
	Bytes int64
}

// Files lists the files of all databases.
func (s *Server) Files(ctx context.Context) ([]File, error) {
	var out []File
	err := s.rows(ctx, files(), func(r *sql.Rows) error {
		var db sql.NullString
		var f File
		var pages int64
		if err := r.Scan(&db, &f.ID, &f.Name, &f.Path, &pages); err != nil {
			return err
		}
		f.Database, f.Bytes = db.String, pages*8192
		out = append(out, f)
		return nil
	})
	return out, err
}

// Attachment is a database that is to be made of files.
type Attachment struct {
	// Database is the name that it gets, which may be any that SQL Server takes.
	Database string
	// Paths are the files, by absolute Windows paths: the primary file (.mdf) first.
	Paths []string
	// RebuildLog makes a new log where the old one is lost. The database must have been shut down cleanly, and all data files be there
	// ("CREATE DATABASE (Transact-SQL)", FOR ATTACH_REBUILD_LOG).
	RebuildLog bool
}

// Attached is what a user should know of a database that was attached.
type Attached struct {
	// Orphans are its users whose login this server does not have; they cannot log in until they are mapped to one.
	Orphans []string
	// Notes are sentences for the user.
	Notes []string
}

// Attach makes a database of files that lie in the container. Errors have the class and advice of [Explain]: among others for files of
// a newer server, files that cannot be opened, and keys and certificates that are missing.
//
// A database that is attached gets the server's version at once, and cannot go back.
func (s *Server) Attach(ctx context.Context, a Attachment) (Attached, error) {
	if err := checkName(a.Database); err != nil {
		return Attached{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q cannot be the name of a database: %v", clean(a.Database), err))
	}
	if len(a.Paths) == 0 {
		return Attached{}, errdefs.ErrInvalidArgument.WithMessage("no file was named to attach")
	}
	for _, p := range a.Paths {
		if err := checkPath(p); err != nil {
			return Attached{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q cannot be a database's file: %v", clean(p), err))
		}
	}
	if err := s.exec(ctx, attach(a.Database, a.Paths, a.RebuildLog)); err != nil {
		return Attached{}, fmt.Errorf("attach database %q: %w", a.Database, err)
	}
	var out Attached
	lost, err := s.Orphans(ctx, a.Database)
	if err != nil {
		return out, fmt.Errorf("database %q is attached, but its users could not be listed: %w", a.Database, err)
	}
	for _, user := range lost {
		out.Orphans = append(out.Orphans, clean(user))
	}
	if len(out.Orphans) > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("users of %s without a login on this server: %s. Make the logins, then map each user "+
			"in its database: ALTER USER [user] WITH LOGIN = [login]", clean(a.Database), strings.Join(out.Orphans, ", ")))
	}
	return out, nil
}

// Orphans lists the users of a database whose login this server does not have.
func (s *Server) Orphans(ctx context.Context, database string) ([]string, error) {
	return inDatabase(ctx, s, database, func() ([]string, error) {
		var out []string
		err := s.rows(ctx, orphans(), func(r *sql.Rows) error {
			var user, sid sql.NullString
			err := r.Scan(&user, &sid)
			out = append(out, user.String)
			return err
		})
		return out, err
	})
}

// MapUser gives a user of a database to a login of the server.
func (s *Server) MapUser(ctx context.Context, database, user, login string) error {
	_, err := inDatabase(ctx, s, database, func() (struct{}, error) {
		return struct{}{}, s.exec(ctx, mapUser(user, login))
	})
	return err
}

// inDatabase does something in a database and leaves the session in master: one that stays would keep the database in use.
func inDatabase[T any](ctx context.Context, s *Server, database string, do func() (T, error)) (T, error) {
	if err := s.exec(ctx, use(database)); err != nil {
		var none T
		return none, err
	}
	out, err := do()
	return out, errors.Join(err, s.exec(ctx, use("master")))
}

// Run runs batches of the user's own in a database, one after the other. A batch is what stands between two lines GO of a
// script, which are none of the server's.
func (s *Server) Run(ctx context.Context, database string, batches ...string) error {
	_, err := inDatabase(ctx, s, database, func() (struct{}, error) {
		for _, b := range batches {
			if err := s.exec(ctx, statement{text: b + "\n"}); err != nil { // with a line's end it is no name of a procedure
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	return err
}

// Column runs a query of the user's own in a database that gives one column of text.
func (s *Server) Column(ctx context.Context, database, query string) ([]string, error) {
	return inDatabase(ctx, s, database, func() ([]string, error) { return s.names(ctx, statement{text: query + "\n"}) })
}

// Detach takes a database out of the server, cleanly, so that its files can be copied. Its other sessions are ended and
// what they had not committed is rolled back. If it cannot be detached (it is published, mirrored, has a snapshot, is
// suspect) it is put back in use. Notes say what is different in the files.
func (s *Server) Detach(ctx context.Context, database string) (notes []string, err error) {
	if isSystem(database) {
		return nil, errdefs.ErrInvalidArgument.WithMessage(database + " is a database of the server itself and cannot be detached")
	}
	async, found := false, false
	err = s.rows(ctx, asyncStatistics(database), func(r *sql.Rows) error {
		found = true
		return r.Scan(&async)
	})
	if err != nil {
		return nil, fmt.Errorf("detach database %q: %w", clean(database), err)
	}
	if !found {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no database %q in this container", clean(database)))
	}
	steps := []statement{singleUser(database), detach(database)}
	undo := []statement{multiUser(database)}
	if async {
		steps = slices.Insert(steps, 0, setAsyncStatistics(database, false))
		undo = append(undo, setAsyncStatistics(database, true))
		notes = append(notes, "the option AUTO_UPDATE_STATISTICS_ASYNC of "+clean(database)+" had to be switched off; switch it on again where the database is attached")
	}
	for _, st := range steps {
		if err = s.exec(ctx, st); err != nil {
			break
		}
	}
	if err == nil {
		return notes, nil
	}
	err = fmt.Errorf("detach database %q: %w", clean(database), err)
	// It must not stay closed to all, even if the caller has lost patience.
	back, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), probeTime, errors.New("the server does not answer"))
	defer cancel()
	for _, st := range undo {
		err = errors.Join(err, s.exec(back, st))
	}
	return nil, err
}

// RegenerateServiceKey makes a new service master key. With force it does so although what the old one protects cannot be read, and
// is lost then.
func (s *Server) RegenerateServiceKey(ctx context.Context, force bool) error {
	return s.exec(ctx, regenerateServiceKey(force))
}

// setPassword never lets text into an error in which the password might stand.
func (s *Server) setPassword(ctx context.Context, login, password string) error {
	switch {
	case password == "":
		return errdefs.ErrInvalidArgument.WithMessage("the password of a database must not be empty")
	case utf8.RuneCountInString(password) > maxName || strings.ContainsRune(password, 0):
		return errdefs.ErrInvalidArgument.WithMessage("a password of SQL Server has up to 128 characters, none of which is NUL")
	}
	err := s.exec(ctx, setPassword(login, password))
	switch {
	case err == nil:
		return nil
	case has(err, 15118), has(err, 15116), has(err, 15117), has(err, 15119):
		return errdefs.ErrInvalidArgument.WithMessage("the password does not meet the policy of Windows (length, kinds of characters)")
	}
	return fmt.Errorf("%w: the server refused the new password of %q (its message is withheld)", errdefs.ErrUnknown, login)
}

// firstSnapshotVersion has SUSPEND_FOR_SNAPSHOT_BACKUP: SQL Server 2022.
const firstSnapshotVersion = 16

// Freeze stops all writing to the files of the user databases until thaw is called, so that one instant of them can be
// taken by a snapshot of the volume. It is for SQL Server 2022 and later; for older ones the error wraps
// errdefs.ErrFailedPrecondition and says that the container has to be stopped first. master, model and msdb are not
// frozen ("Create a Transact-SQL snapshot backup"), and at most 64 databases can be.
//
// The freeze belongs to this session, in which thaw must be called; it works after ctx has ended. What becomes of a freeze whose session
// ends is not documented.
func (s *Server) Freeze(ctx context.Context) (thaw func() error, err error) {
	info, err := s.info(ctx)
	if err != nil {
		return nil, err
	}
	if info.major() < firstSnapshotVersion {
		return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
			"SQL Server %s cannot hold its writes for a snapshot (2022 and later can); stop the container first", clean(info.Version)))
	}
	resumed := func() error {
		back, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), probeTime, errors.New("the server does not answer"))
		defer cancel()
		return s.exec(back, resume())
	}
	if err := s.exec(ctx, suspend()); err != nil {
		return nil, errors.Join(err, resumed()) // some databases may be suspended already
	}
	return resumed, nil
}

// Shutdown ends the server: after the statements that run, and with a checkpoint in every database, so that the next start has
// nothing to recover; or at once, with noWait. It returns when the session has been cut.
func (s *Server) Shutdown(ctx context.Context, noWait bool) error {
	err := s.exec(ctx, shutdown(noWait))
	var network *net.OpError
	if err == nil || errdefs.IsUnavailable(err) && ctx.Err() == nil || errors.As(err, &network) {
		return nil // the server has gone, and could not answer
	}
	return err
}
