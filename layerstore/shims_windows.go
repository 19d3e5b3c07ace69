package layerstore

// Shim is the process of a shim that was started by this store.
type Shim struct {
	ID  string // of its task
	PID int
}

// Shims is empty: the shims of this system end with the connection to the daemon
// that started them.
func (s *Store) Shims() ([]Shim, error) { return nil, nil }

// KillShim does nothing, as there is none.
func (s *Store) KillShim(Shim) error { return nil }
