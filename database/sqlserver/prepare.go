package sqlserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Preparation is what a set of system databases needs before its first ordinary start in a new place. master records the absolute path of
// every file of every database, and in a container that was made of another one's files, or of the templates that SQL Server
// is installed with, these paths lead elsewhere: into the original, if it still is there.
//
// The server is therefore first started in master-only recovery: with -f and trace flag 3608, which keep it from opening any database but
// master, and with -m and the name of this program, so that nobody else gets the one session that there is ("Move
// System Databases", failure recovery procedure; "Database Engine Service Startup Options"). The paths are changed, and
// it is shut down again.
type Preparation struct {
	// Launch starts sqlservr in the container with these arguments and returns a function that waits for its end.
	Launch func(ctx context.Context, args []string) (wait func(context.Context) error, err error)
	// Args are the arguments of an ordinary start ([Instance.Args]).
	Args []string
	// Login reaches the server.
	Login Login
	// Root is the container's root and Data the directory in it that has the system databases, both as the server sees
	// them now.
	Root, Data string
	// Templates is true if the system databases are the templates of an installation, which were never anywhere.
	Templates bool
	// Password, if it is not empty, becomes the password of sa, which is enabled.
	Password string
}

// Prepared is what was done.
type Prepared struct {
	// Moved are the files whose path was changed.
	Moved []File
	// Notes are sentences for the user.
	Notes []string
}

// preparationArgs are added for the preparation.
var preparationArgs = []string{"-f", "-m" + appName, "-T3608"}

// Prepare runs a [Preparation]. It may be repeated after a crash. When it fails the server is not left running as long
// as it still answers; the caller ends what does not.
func Prepare(ctx context.Context, p Preparation) (done Prepared, err error) {
	wait, err := p.Launch(ctx, slices.Concat(p.Args, preparationArgs))
	if err != nil {
		return Prepared{}, err
	}
	s, err := connectWhenUp(ctx, p.Login)
	if err != nil {
		return Prepared{}, fmt.Errorf("prepare the system databases: %w", err)
	}
	defer s.Close()
	defer func() {
		// -f has no checkpoint to wait for, and nothing else was changed.
		end, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), probeTime, errors.New("the server does not end"))
		defer cancel()
		if stop := s.Shutdown(end, false); stop != nil {
			err = errors.Join(err, stop)
		} else if left := wait(end); left != nil {
			err = errors.Join(err, left)
		}
	}()
	list, err := s.Files(ctx)
	if err != nil {
		return Prepared{}, err
	}
	moved, outside, err := p.moves(list)
	if err != nil {
		return Prepared{}, err
	}
	for _, f := range moved {
		if err := s.exec(ctx, moveFile(f.Database, f.Name, f.Path)); err != nil {
			return Prepared{}, fmt.Errorf("move file %q of database %q: %w", clean(f.Name), clean(f.Database), err)
		}
	}
	if p.Password != "" {
		if err := s.setPassword(ctx, administrator, p.Password); err != nil {
			return Prepared{}, err
		}
		if err := s.exec(ctx, enableLogin(administrator)); err != nil {
			return Prepared{}, err
		}
	}
	done.Moved = moved
	for _, f := range outside {
		done.Notes = append(done.Notes, fmt.Sprintf("file %s of database %s lies outside of the container and is not the clone's own", clean(f.Path), clean(f.Database)))
	}
	return done, nil
}

// Numbers of system databases, "sys.databases (Transact-SQL)". Those of the resource database and above are
// hidden and have no rows in sys.master_files.
const (
	idMaster     = 1
	lastSystemID = 4
)

// model is the database whose data file, of the logical name modelFile, tells where the others are ("model Database").
const (
	model     = "model"
	modelFile = "modeldev"
)

// moves tells where files go, and which are outside of the root that the container's files came from.
func (p Preparation) moves(list []File) (moved, outside []File, err error) {
	from, err := p.origin(list)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range list {
		var target string
		rest, inside := beneath(f.Path, from)
		switch {
		case f.ID == idMaster: // its place are the arguments -d and -l
			continue
		case p.Templates && f.ID <= lastSystemID:
			target = join(p.Data, baseOf(f.Path))
		case inside:
			target = join(p.Root, rest)
		default:
			if _, here := beneath(f.Path, p.Root); !here {
				outside = append(outside, f)
			}
			continue
		}
		if same(target, f.Path) {
			continue
		}
		f.Path = target
		moved = append(moved, f)
	}
	// As long as model's first file is where it was, a preparation that is cut short can be repeated.
	slices.SortStableFunc(moved, func(a, b File) int { return cmp.Compare(moveRank(a), moveRank(b)) })
	return moved, outside, nil
}

// moveRank orders files for moving: those of model after all others, and the one by which origin knows the place last.
func moveRank(f File) int {
	switch {
	case f.Database != model:
		return 0
	case strings.EqualFold(f.Name, modelFile):
		return 2
	}
	return 1
}

// origin is the root that the files lay beneath. model is never moved on its own, so where model is, master was: the place of the
// data directory beneath the root is known, and what is before it is the root.
func (p Preparation) origin(list []File) (string, error) {
	if p.Templates {
		return "", nil
	}
	rest, ok := beneath(p.Data, p.Root)
	if !ok {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the data directory %s is not in the container's root %s", p.Data, p.Root))
	}
	for _, f := range list {
		if f.Database != model || !strings.EqualFold(f.Name, modelFile) {
			continue
		}
		data := dirOf(f.Path)
		if cut := len(data) - len(rest) - 1; cut > 0 && same(data[cut+1:], rest) {
			return data[:cut], nil
		}
		return "", errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
			"the database model lies in %s, not in %s of a container, so it is not known where the others belong", clean(data), rest))
	}
	return "", errdefs.ErrFailedPrecondition.WithMessage("the server's database model is missing")
}
