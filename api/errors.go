package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/common"
)

// statusClientGone is what the log shows for a request whose client left before
// the answer. It is never sent.
const statusClientGone = 499

// errShutdown is the cause of contexts that end because the server does.
var errShutdown = errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")

// statuses maps classes of errors to HTTP status codes. What is in no class
// here, or in none at all, is 500.
var statuses = []struct {
	class  error
	status int
}{
	{errdefs.ErrNotFound, http.StatusNotFound},
	{errdefs.ErrInvalidArgument, http.StatusBadRequest},
	{errdefs.ErrOutOfRange, http.StatusBadRequest},
	{errdefs.ErrConflict, http.StatusConflict},
	{errdefs.ErrAlreadyExists, http.StatusConflict},
	{errdefs.ErrFailedPrecondition, http.StatusConflict},
	{errdefs.ErrUnauthenticated, http.StatusUnauthorized},
	{errdefs.ErrPermissionDenied, http.StatusForbidden},
	{errdefs.ErrNotModified, http.StatusNotModified},
	{errdefs.ErrNotImplemented, http.StatusNotImplemented},
	{errdefs.ErrUnavailable, http.StatusServiceUnavailable},
}

// statusOf returns the HTTP status code for an error. Of several classes in one
// chain of errors the outermost counts.
func statusOf(err error) int {
	class := errdefs.Resolve(err)
	for _, s := range statuses {
		if errors.Is(class, s.class) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}

// writeError answers with an error in Docker's form. Clients from before JSON
// errors get plain text; they only ever see that they are too old.
func writeError(w http.ResponseWriter, v Version, err error) {
	status := statusOf(err)
	switch {
	case status == http.StatusNotModified:
		w.WriteHeader(status)
	case v.Less(plainTextBelow) && v != (Version{}):
		http.Error(w, err.Error(), status)
	default:
		// The client may be gone; there is nobody left to tell.
		_ = writeJSON(w, status, common.ErrorResponse{Message: err.Error()})
	}
}

// invalidf makes an error of the class invalid argument.
func invalidf(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// notImplemented refuses what the engine does not do yet, by its name.
func notImplemented(what string) error {
	return errdefs.ErrNotImplemented.WithMessage(what + " is not implemented yet")
}
