//go:build !windows

package fromhost

// thisWindows is nil: this machine is none.
func thisWindows() *windowsHost { return nil }
