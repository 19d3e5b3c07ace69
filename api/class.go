package api

// Class says what kind of operation a route is: which locks the engine takes for
// it and how it ends when the server shuts down. It is the locks table of
// docs/architecture.md as data.
type Class string

// The classes of operations.
const (
	// ClassRead reads published records and takes no lock.
	ClassRead Class = "read"
	// ClassWatch subscribes, and lasts as long as the client wants. No lock.
	ClassWatch Class = "watch"
	// ClassInterrupt must never wait behind another operation. No lock.
	ClassInterrupt Class = "interrupt"
	// ClassShare locks the container shared for its set-up, then only holds a
	// reference that stop and rm can cancel.
	ClassShare Class = "share"
	// ClassTransition locks the container exclusively.
	ClassTransition Class = "transition"
	// ClassCreate makes a new object: its name is reserved, nothing is locked.
	ClassCreate Class = "create"
	// ClassSharedObject locks a network, volume or image that others may use.
	ClassSharedObject Class = "shared object"
	// ClassSweep goes over many objects and skips those that are locked.
	ClassSweep Class = "sweep"
)

// streams reports whether operations of the class last as long as the client
// wants, so that a shutdown ends them at once instead of waiting.
func (c Class) streams() bool { return c == ClassWatch || c == ClassShare }
