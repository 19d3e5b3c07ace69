//go:build linux

package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"slipway/internal/failpoint"
	"slipway/internal/testutil"

	"github.com/jackc/pgx/v5"
)

const (
	postgresImage = "postgres:15"
	bankPassword  = "of the bank"
	bankWriters   = 4
	bankAccounts  = 100
	bankBalance   = 1000 // of each account at the beginning
)

// soaking tells whether the fault tests are being repeated (make soak), and may
// take their time.
func soaking() bool {
	count := flag.Lookup("test.count")
	return os.Getenv("SLIPWAY_SOAK") == "1" || count != nil && count.Value.String() != "1"
}

// postgresEngine is an engine of the test's own with the image of the machine's
// PostgreSQL.
func postgresEngine(t *testing.T) *testutil.Daemon {
	t.Helper()
	testutil.RequireRoot(t)
	if found, err := filepath.Glob("/usr/lib/postgresql/15/bin/postgres"); err != nil || len(found) == 0 {
		testutil.Skip(t, testutil.NeedsPostgres)
	}
	d := ownEngine(t)
	if r := d.Slipway("image", "from-host", "postgresql"); r.Code != 0 {
		t.Fatalf("image from-host: %s%s", r.Stdout, r.Stderr)
	}
	return d
}

// connect opens a session with the database of a container over its published
// port, and waits until that is possible.
func connect(t *testing.T, d *testutil.Daemon, container, password string) *pgx.Conn {
	t.Helper()
	var conn *pgx.Conn
	var err error
	for deadline := time.Now().Add(testutil.Patience); conn == nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("connecting to %s: %v\n%s", container, err, d.Docker("logs", "-n", "20", container).Stderr)
		}
		conn, err = tryConnect(t.Context(), d.Docker("port", container, "5432/tcp").Stdout, password)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // its server may be gone
	return conn
}

func tryConnect(ctx context.Context, address, password string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("the database does not answer"))
	defer cancel()
	cfg, err := pgx.ParseConfig("postgres://" + strings.TrimSpace(address) + "/postgres?sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Password = "postgres", password
	return pgx.ConnectConfig(ctx, cfg)
}

func value[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func execute(t *testing.T, conn *pgx.Conn, query string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// bank is a database in which writers transfer money without pause.
type bank struct {
	d    *testutil.Daemon
	name string
	// acknowledged counts each writer's transfers whose commit was answered.
	acknowledged [bankWriters]atomic.Int64
	wg           sync.WaitGroup
}

// openBank starts a database and fills it.
func openBank(t *testing.T, d *testutil.Daemon) *bank {
	t.Helper()
	b := &bank{d: d}
	b.name = backgroundOn(t, d, "-e", "POSTGRES_PASSWORD="+bankPassword, "-p", "127.0.0.1::5432", postgresImage)
	conn := connect(t, d, b.name, bankPassword)
	execute(t, conn, fmt.Sprintf(`
		CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
		INSERT INTO account SELECT n, %d FROM generate_series(1, %d) n;
		CREATE TABLE ledger (writer int, n bigint, source int REFERENCES account, target int REFERENCES account, amount bigint, PRIMARY KEY (writer, n))`,
		bankBalance, bankAccounts))
	return b
}

// write transfers money until stop is called. A failure is the test's, unless it
// is that of the end.
func (b *bank) write(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	for w := range bankWriters {
		conn := connect(t, b.d, b.name, bankPassword)
		b.wg.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				// In the order of their numbers, so that no two writers wait for each other.
				first := 1 + (int(n)*7+w*31)%(bankAccounts-1)
				if err := transfer(ctx, conn, w, n, first, first+1); err != nil {
					if ctx.Err() == nil {
						t.Errorf("transfer %d of writer %d: %v", n, w, err)
					}
					return
				}
				b.acknowledged[w].Store(n)
			}
		})
	}
	return sync.OnceFunc(func() {
		cancel(errors.New("enough was written"))
		b.wg.Wait()
	})
}

func transfer(ctx context.Context, conn *pgx.Conn, writer int, n int64, source, target int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	amount := n % 17
	for _, step := range []struct {
		sql  string
		args []any
	}{
		{"UPDATE account SET balance = balance - $2 WHERE id = $1", []any{source, amount}},
		{"UPDATE account SET balance = balance + $2 WHERE id = $1", []any{target, amount}},
		{"INSERT INTO ledger VALUES ($1, $2, $3, $4, $5)", []any{writer, n, source, target, amount}},
	} {
		if _, err := tx.Exec(ctx, step.sql, step.args...); err != nil {
			return errors.Join(err, tx.Rollback(ctx))
		}
	}
	return tx.Commit(ctx)
}

func (b *bank) counts() (c [bankWriters]int64) {
	for w := range c {
		c[w] = b.acknowledged[w].Load()
	}
	return c
}

// commit makes an image of a container, through the API as the docker client
// does it.
func commit(t *testing.T, d *testutil.Daemon, container, image string) {
	t.Helper()
	repo, tag, _ := strings.Cut(image, ":")
	d.API(t, http.MethodPost, "/commit?container="+container+"&repo="+repo+"&tag="+tag, spec{}, http.StatusCreated, nil)
}

// audit looks into a clone: all transfers that must be there are, none is there
// in part, and every page and index is sound.
func audit(t *testing.T, d *testutil.Daemon, clone string, atLeast, atMost [bankWriters]int64) {
	t.Helper()
	conn := connect(t, d, clone, bankPassword)
	if sum := value[int64](t, conn, "SELECT sum(balance)::bigint FROM account"); sum != bankAccounts*bankBalance {
		t.Errorf("%s: the balances sum up to %d, want %d", clone, sum, bankAccounts*bankBalance)
	}
	wrong := value[int64](t, conn, fmt.Sprintf(`SELECT count(*) FROM account a WHERE balance <> %d
		- (SELECT coalesce(sum(amount), 0) FROM ledger WHERE source = a.id) + (SELECT coalesce(sum(amount), 0) FROM ledger WHERE target = a.id)`, bankBalance))
	if wrong != 0 {
		t.Errorf("%s: %d accounts differ from the ledger", clone, wrong)
	}
	for w := range bankWriters {
		rows := value[int64](t, conn, "SELECT count(*) FROM ledger WHERE writer = $1", w)
		last := value[int64](t, conn, "SELECT coalesce(max(n), 0) FROM ledger WHERE writer = $1", w)
		if rows != last {
			t.Errorf("%s: writer %d has %d transfers up to number %d: some are lost", clone, w, rows, last)
		}
		if rows < atLeast[w] || rows > atMost[w] {
			t.Errorf("%s: writer %d has %d transfers, want %d to %d", clone, w, rows, atLeast[w], atMost[w])
		}
	}
	d.MustDocker(t, "exec", "-u", "postgres", clone, "pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--parent-check")
}

// TestFaultLedger commits a database again and again while transfers are written
// to it, and audits a clone of each image.
//
// A commit is the state of one moment between its request and its reply: that of
// the freeze. So every transfer acknowledged before the request must be in the
// image. One that is acknowledged after the thaw cannot be, though the reply,
// which also waits for the disk, comes later; what the image has of those is a
// beginning of the writer's sequence, without a gap.
func TestFaultLedger(t *testing.T) { //nolint:tparallel // its parts come one after the other
	t.Parallel()
	d := postgresEngine(t)
	b := openBank(t, d)
	stop := b.write(t)
	defer stop()
	rounds := 8
	if soaking() {
		rounds = 50
	}
	layers := filepath.Join(d.DataRoot, "pool/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots")
	var firstLayer, firstHash string
	for round := range rounds {
		testutil.Eventually(t, "transfers go on", func(before [bankWriters]int64) func() bool {
			return func() bool { return slices.Min(b.gained(before)) >= 5 }
		}(b.counts()))
		image, before := "bank:"+strconv.Itoa(round), directories(t, layers)
		atLeast := b.counts()
		commit(t, d, b.name, image)
		// One more of each writer may be in the database and not yet acknowledged.
		atMost := b.counts()
		for w := range atMost {
			atMost[w]++
		}
		if round == 0 {
			added := slices.DeleteFunc(directories(t, layers), func(dir string) bool { return slices.Contains(before, dir) })
			if len(added) != 1 {
				t.Fatalf("a commit made the layers %q, want one", added)
			}
			firstLayer = filepath.Join(layers, added[0], "fs")
			firstHash = hashTree(t, firstLayer)
		}
		clone := backgroundOn(t, d, "-p", "127.0.0.1::5432", image)
		audit(t, d, clone, atLeast, atMost)
		if round > 0 {
			d.MustDocker(t, "rm", "-fv", clone)
		}
	}
	stop()
	if got := hashTree(t, firstLayer); got != firstHash {
		t.Error("the first image's files have changed, by what was written to the container or its clone")
	}
	t.Run("privacy", func(t *testing.T) { clonesArePrivate(t, b) })
	t.Run("elsewhere", func(t *testing.T) { imageTravels(t, b) })
	t.Run("gate", func(t *testing.T) { gateOpens(t, b) })
	checkFindsNothing(t, d)
}

func (b *bank) gained(since [bankWriters]int64) []int64 {
	now := b.counts()
	gained := make([]int64, bankWriters)
	for w := range gained {
		gained[w] = now[w] - since[w]
	}
	return gained
}

// clonesArePrivate: what is written to a clone is in no other, and a commit of
// the clone has it.
func clonesArePrivate(t *testing.T, b *bank) {
	t.Helper()
	one, two := backgroundOn(t, b.d, "-p", "127.0.0.1::5432", "bank:1"), backgroundOn(t, b.d, "-p", "127.0.0.1::5432", "bank:1")
	execute(t, connect(t, b.d, one, bankPassword), "CREATE TABLE mine AS SELECT 'one' AS who; DELETE FROM ledger")
	for _, other := range []string{two, b.name} {
		conn := connect(t, b.d, other, bankPassword)
		if value[bool](t, conn, "SELECT to_regclass('mine') IS NOT NULL") || value[int64](t, conn, "SELECT count(*) FROM ledger") == 0 {
			t.Errorf("%s has what was written to the clone", other)
		}
	}
	commit(t, b.d, one, "bank:one")
	grandchild := connect(t, b.d, backgroundOn(t, b.d, "-p", "127.0.0.1::5432", "bank:one"), bankPassword)
	if who := value[string](t, grandchild, "SELECT who FROM mine"); who != "one" {
		t.Errorf("a clone of the clone has %q", who)
	}
}

// imageTravels: an image that was saved and loaded by another engine has the same
// rows.
func imageTravels(t *testing.T, b *bank) {
	t.Helper()
	const digest = "SELECT md5(string_agg(l::text, ',' ORDER BY writer, n)) FROM ledger l"
	want := value[string](t, connect(t, b.d, backgroundOn(t, b.d, "-p", "127.0.0.1::5432", "bank:2"), bankPassword), digest)
	archive := filepath.Join(t.TempDir(), "bank.tar")
	b.d.MustDocker(t, "save", "-o", archive, "bank:2")
	other := ownEngine(t)
	other.MustDocker(t, "load", "-i", archive)
	got := value[string](t, connect(t, other, backgroundOn(t, other, "-p", "127.0.0.1::5432", "bank:2"), bankPassword), digest)
	if got != want {
		t.Errorf("the loaded image's ledger has the digest %s, want %s", got, want)
	}
}

// directories are the names of what is in dir.
func directories(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// hashTree is a digest of all files beneath dir with their metadata, without the
// times of access.
func hashTree(t *testing.T, dir string) string {
	t.Helper()
	all := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(all, strings.TrimPrefix(path, dir), info.Mode(), info.Size(), info.ModTime().UnixNano(), stat.Uid, stat.Gid, stat.Nlink)
		if !info.Mode().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(all, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(all.Sum(nil))
}

// gateOpens cuts the daemon where it opens the ports of a clone whose request sets
// a password: the next daemon opens them, with the new password in force.
func gateOpens(t *testing.T, b *bank) {
	t.Helper()
	reached := 0
	for _, point := range failpoints(t) {
		if !strings.HasPrefix(point, "network.open.") {
			continue
		}
		reached++
		if err := b.d.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := b.d.Start(failpoint.Env + "=" + point); err != nil {
			t.Fatal(err)
		}
		clone := backgroundOn(t, b.d, "-e", "POSTGRES_PASSWORD=of the clone", "-p", "127.0.0.1::5432", "bank:1")
		if !b.d.WaitExit(testutil.Patience) {
			t.Fatal("the failpoint was not reached: " + point)
		}
		if err := b.d.Start(); err != nil {
			t.Fatal(err)
		}
		connect(t, b.d, clone, "of the clone")
		if _, err := tryConnect(t.Context(), b.d.MustDocker(t, "port", clone, "5432/tcp"), bankPassword); err == nil {
			t.Errorf("%s: the password of the clone's origin is good", point)
		}
		b.d.MustDocker(t, "rm", "-fv", clone)
		checkFindsNothing(t, b.d)
	}
	if reached == 0 {
		t.Error("there is no such failpoint any more")
	}
}
