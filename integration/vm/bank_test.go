//go:build linux

package vm

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway/integration/vm/agent"
)

// The bank: in the container of this name money is transferred from account to
// account, and each transfer is written down under its number.
const (
	bankName     = "bank"
	bankAccounts = 50
	bankBalance  = 1000
)

var bankSchema = fmt.Sprintf(`
	CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
	INSERT INTO account SELECT n, %d FROM generate_series(1, %d) n;
	CREATE TABLE ledger (n bigint PRIMARY KEY, source int REFERENCES account, target int REFERENCES account, amount bigint)`,
	bankBalance, bankAccounts)

// transfer is the n-th, which ends with an answer of its number after the commit.
func transfer(n int64) string {
	source, target, amount := 1+n*7%bankAccounts, 1+(n*7+1)%bankAccounts, n%17
	return fmt.Sprintf("BEGIN; UPDATE account SET balance = balance - %[4]d WHERE id = %[2]d; UPDATE account SET balance = balance + %[4]d WHERE id = %[3]d; "+
		"INSERT INTO ledger VALUES (%[1]d, %[2]d, %[3]d, %[4]d); COMMIT; SELECT %[1]d;\n", n, source, target, amount)
}

// auditSQL: the sum of all balances, the number of transfers, the number of the
// last, and how many accounts differ from what was written down.
var auditSQL = fmt.Sprintf(`SELECT (SELECT sum(balance) FROM account), (SELECT count(*) FROM ledger), (SELECT coalesce(max(n), 0) FROM ledger),
	(SELECT count(*) FROM account a WHERE balance <> %d
		- (SELECT coalesce(sum(amount), 0) FROM ledger WHERE source = a.id) + (SELECT coalesce(sum(amount), 0) FROM ledger WHERE target = a.id))`, bankBalance)

// bank is what the world outside of the machine knows of the bank. It outlives
// machines.
type bank struct {
	// asked and acknowledged are the numbers of the last transfers.
	asked, acknowledged atomic.Int64
}

// teller is a session in one machine's bank.
type teller struct {
	wg sync.WaitGroup
}

// sessionWindow is how many transfers may be under way to the database.
const sessionWindow = 4

// open starts to transfer money, until the machine is gone.
func (b *bank) open(t *testing.T, m *machine) *teller {
	t.Helper()
	answers := make(chan int64, 2*sessionWindow)
	var errs bytes.Buffer
	session, err := m.Start(agent.Options{Stdout: &answerReader{answers: answers}, Stderr: &errs}, append(dockerCommand,
		"exec", "-i", "-u", "postgres", bankName, "psql", "-qAtX", "-v", "ON_ERROR_STOP=1")...)
	if err != nil {
		t.Fatal(err)
	}
	teller := &teller{}
	teller.wg.Go(func() {
		for next := b.acknowledged.Load() + 1; ; {
			for ; next <= b.acknowledged.Load()+sessionWindow; next++ {
				b.asked.Store(next)
				if _, err := session.Write([]byte(transfer(next))); err != nil {
					return // the machine is gone
				}
			}
			select {
			case n := <-answers:
				b.acknowledged.Store(n)
			case <-m.Gone():
				return
			}
		}
	})
	teller.wg.Go(func() {
		if code, err := session.Wait(t.Context()); err == nil {
			t.Errorf("the session ended with code %d: %s", code, &errs)
			m.kill()
		}
	})
	return teller
}

// wait waits until the machine is gone and nothing changes any more.
func (s *teller) wait() { s.wg.Wait() }

// answerReader takes the numbers out of what psql prints.
type answerReader struct {
	rest    string
	answers chan<- int64
}

func (r *answerReader) Write(p []byte) (int, error) {
	r.rest += string(p)
	for {
		line, rest, ok := strings.Cut(r.rest, "\n")
		if !ok {
			return len(p), nil
		}
		r.rest = rest
		n, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			return 0, err
		}
		r.answers <- n
	}
}

// awaitDatabase waits until a container's database answers.
func awaitDatabase(t *testing.T, m *machine, container string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		code, _, stderr := m.run(t, append(dockerCommand, "exec", "-u", "postgres", container, "psql", "-qAtXc", "SELECT 1")...)
		if code == 0 {
			return
		}
		if time.Now().After(deadline) {
			_, out, errs := m.run(t, append(dockerCommand, "logs", "-n", "30", container)...)
			t.Fatalf("%s does not answer: %s\nits log:\n%s%s", container, stderr, out, errs)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// audit looks into a running bank or a clone of one: there are at least so many
// transfers, none is there in part, and every page and index is sound. It
// returns the number of transfers.
func (b *bank) audit(t *testing.T, m *machine, container string, atLeast int64) int64 {
	t.Helper()
	awaitDatabase(t, m, container)
	var sum, rows, last, wrong int64
	out := m.docker(t, "exec", "-u", "postgres", container, "psql", "-qAtXF", " ", "-c", auditSQL)
	if _, err := fmt.Sscan(out, &sum, &rows, &last, &wrong); err != nil {
		t.Fatalf("%s: %q: %v", container, out, err)
	}
	if sum != bankAccounts*bankBalance || wrong != 0 {
		t.Errorf("%s: the balances sum up to %d, want %d; %d accounts differ from the ledger", container, sum, bankAccounts*bankBalance, wrong)
	}
	if rows != last {
		t.Errorf("%s: %d transfers up to number %d: some are lost", container, rows, last)
	}
	if rows < atLeast || rows > b.asked.Load() {
		t.Errorf("%s: %d transfers, want %d to %d", container, rows, atLeast, b.asked.Load())
	}
	m.docker(t, "exec", "-u", "postgres", container, "pg_amcheck", "--database", "postgres", "--install-missing", "--heapallindexed", "--parent-check")
	return rows
}

// recovered is told how many transfers the bank has after a power cut: those
// that were asked for and not answered may be there or not.
func (b *bank) recovered(rows int64) {
	b.asked.Store(rows)
	b.acknowledged.Store(rows)
}
