package dirs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// patience is how long something that is in use is tried again. Virus scanners and
// indexers open what was just written, for a moment.
const patience = 2 * time.Second

// rename gives a directory another name. If files in it are in use, which forbids
// that, it is a FailedPrecondition error.
func rename(ctx context.Context, from, to string) error {
	wait := time.NewTicker(patience / 20)
	defer wait.Stop()
	for end := time.Now().Add(patience); ; {
		err := os.Rename(from, to)
		switch {
		case err == nil || !isInUse(err):
			return err
		case time.Now().After(end):
			return fmt.Errorf("%w: %w", errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("files in %s are in use by a process: stop that first", from)), err)
		}
		select {
		case <-wait.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func isInUse(err error) bool {
	return errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_SHARING_VIOLATION)
}

// ignoreInUse drops the error of a removal that has to wait for the end of a use.
func ignoreInUse(err error) error {
	if isInUse(err) || errors.Is(err, windows.ERROR_DIR_NOT_EMPTY) {
		return nil
	}
	return err
}
