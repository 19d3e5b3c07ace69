package testutil

import "golang.org/x/sys/windows"

// UnderWine tells whether the Windows that runs this is Wine, which says so by a
// function of its own.
func UnderWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}
