package testutil

import (
	"runtime"
	"testing"
)

// RealWindows begins the reason of every test that was never run where there is
// no Windows. Such tests are listed in docs/windows.md.
const RealWindows = "needs real Windows: "

// WineLacks is what Wine, or whatever else is no Windows, cannot show: why a test
// of tier E (docs/windows.md) is skipped. The list is fixed, like that of [Reason].
type WineLacks string

// What Wine 8 lacks.
const (
	WineNoLimits       WineLacks = "Wine accepts limits of jobs and enforces none"
	WineNoRates        WineLacks = "Wine has no CPU, network or I/O rates of jobs"
	WineNoAccounting   WineLacks = "Wine does not account the CPU time and the I/O of jobs"
	WineNoDACLs        WineLacks = "Wine does not enforce the access control lists of files"
	WineNoIntegrity    WineLacks = "Wine does not enforce integrity levels"
	WineNoAccounts     WineLacks = "Wine has one user: accounts and log-ons are accepted without effect"
	WineNoAppContainer WineLacks = "Wine has no AppContainers"
	WineNoConsole      WineLacks = "Wine's pseudo console has no output, and console events do not arrive"
	WineNoLinks        WineLacks = "Wine makes no symbolic links and no junctions"
	WineNoFileSystem   WineLacks = "Wine has no block clones, no alternate streams and no sparse files"
	WineNoVHDX         WineLacks = "Wine has no virtual disks"
	WineNoFirewall     WineLacks = "Wine has no Windows Filtering Platform"
	WineNoHives        WineLacks = "Wine loads no registry hives"
	WineNoServices     WineLacks = "Wine's service manager is not Windows'"
	WineNoSQLServer    WineLacks = "needs an installed SQL Server"
	WineNoContainers   WineLacks = "needs the Containers feature of Windows Server"
	WineNoDotNet       WineLacks = "needs an installed .NET or IIS"
)

// NeedsRealWindows skips the test everywhere but on a real Windows.
func NeedsRealWindows(t *testing.T, why WineLacks) {
	t.Helper()
	if runtime.GOOS != "windows" || UnderWine() {
		t.Skip(RealWindows + string(why))
	}
}
