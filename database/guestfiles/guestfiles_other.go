//go:build !linux

package guestfiles

import (
	"slipway/database"

	"github.com/containerd/errdefs"
)

var _ database.Files = (*Tree)(nil)

// Read is not implemented here; nor is anything else.
func (t *Tree) Read(string, int64) ([]byte, error) { return nil, errdefs.ErrNotImplemented }

// List is not implemented here.
func (t *Tree) List(string, int) ([]string, error) { return nil, errdefs.ErrNotImplemented }

// Size is not implemented here.
func (t *Tree) Size(string) (int64, error) { return 0, errdefs.ErrNotImplemented }

// Replace is not implemented here.
func (t *Tree) Replace(string, []byte) error { return errdefs.ErrNotImplemented }

// Rename is not implemented here.
func (t *Tree) Rename(string, string) error { return errdefs.ErrNotImplemented }

// Remove is not implemented here.
func (t *Tree) Remove(string) error { return errdefs.ErrNotImplemented }
