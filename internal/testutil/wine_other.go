//go:build !windows

package testutil

// UnderWine tells whether the Windows that runs this is Wine. There is none here.
func UnderWine() bool { return false }
