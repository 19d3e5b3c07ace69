package testutil

import (
	"os"
	"testing"
)

// Reason is why a test cannot run here. The list is fixed, so that the summary
// of a test run shows at a glance what was left out.
type Reason string

// The reasons there are.
const (
	NeedsRoot      Reason = "needs root"
	NeedsBinaries  Reason = "needs the binaries of make build"
	NeedsCgroupV2  Reason = "this kernel or machine has no cgroup v2 controllers (runs in make test-vm)"
	NeedsBusybox   Reason = "needs Debian's busybox-static (script/setup)"
	NeedsAppArmor  Reason = "this kernel has no AppArmor (runs in make test-vm)"
	NeedsPostgres  Reason = "needs Debian's postgresql-15 (script/setup)"
	NeedsVM        Reason = "needs a machine of its own (runs in make test-vm)"
	NeedsWine      Reason = "needs Wine (runs in make test-wine)"
	NeedsNPM       Reason = "needs npm, by which PostgreSQL for Windows is fetched"
	NeedsLoop      Reason = "no loop device can be had"
	TooLongInShort Reason = "left out by -short"
)

// Skip ends the test as skipped, for one of the fixed reasons.
func Skip(t *testing.T, why Reason) {
	t.Helper()
	t.Skip(string(why))
}

// RequireRoot skips the test when it does not run as root.
func RequireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, NeedsRoot)
	}
}
