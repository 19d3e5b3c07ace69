// Package shim decides how a container is executed: by which containerd shim
// ([Drivers]) and with which OCI runtime specification ([Spec]).
//
// The specification is Docker's default container, changed by what the request
// says. Docker's API types are the input; names, paths and ids that only the
// rest of the engine can find (the user's number, the volumes' paths, the
// network namespace) come resolved in a [SpecRequest].
//
// [Validate] comes first. It refuses what this package cannot honour by an error
// that names the option, drops with Docker's own warning what the kernel cannot
// do, and completes the request with Docker's defaults. A test holds a table of
// every field of the API's structs, so that a field that a new version of the
// API adds cannot be ignored silently.
//
// The package keeps no state and takes no locks. All functions are safe for
// concurrent use.
package shim
