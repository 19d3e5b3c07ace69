//go:build linux

package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"slipway/internal/testutil"

	"github.com/miekg/dns"
)

// shared is the daemon of all tests that do not stop it, started by the first.
var shared struct {
	once   sync.Once
	daemon *testutil.Daemon
	err    error
}

// helperEnv makes this program be something else: what a container needs and
// busybox has not. It is linked statically and bind-mounted.
const helperEnv = "SLIPWAY_TEST_HELPER"

func helper(what string) error {
	switch what {
	case "udp-echo":
		c, err := net.ListenPacket("udp", ":5353")
		if err != nil {
			return err
		}
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return err
			}
			if _, err := c.WriteTo(buf[:n], from); err != nil {
				return err
			}
		}
	case "name-server":
		// Every name has the address of who asks.
		return dns.ListenAndServe(":53", "udp", dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			reply := new(dns.Msg).SetReply(q)
			if client, ok := w.RemoteAddr().(*net.UDPAddr); ok && q.Question[0].Qtype == dns.TypeA {
				reply.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: client.IP}}
			}
			_ = w.WriteMsg(reply)
		}))
	default:
		return errors.New("no such helper: " + what)
	}
}

func TestMain(m *testing.M) {
	if what := os.Getenv(helperEnv); what != "" {
		fmt.Fprintln(os.Stderr, helper(what))
		os.Exit(1)
	}
	if os.Geteuid() == 0 {
		if err := testutil.Sweep(); err != nil {
			fmt.Fprintf(os.Stderr, "left by an earlier run: %v\n", err)
		}
	}
	code := m.Run()
	for _, d := range []*testutil.Daemon{shared.daemon, sharedDatabases.Daemon} {
		if d == nil {
			continue
		}
		log := d.LogTail(200)
		if err := d.Destroy(); err != nil {
			fmt.Fprintf(os.Stderr, "the shared daemon left: %v\n", err)
			code = 1
		}
		if code != 0 {
			fmt.Fprintf(os.Stderr, "the end of its log:\n%s\n", log)
		}
	}
	os.Exit(code)
}

// engine is the shared daemon with the busybox image.
func engine(t *testing.T) *testutil.Daemon {
	t.Helper()
	testutil.RequireRoot(t)
	shared.once.Do(func() {
		shared.daemon, shared.err = newEngine()
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.daemon
}

func newEngine(flags ...string) (*testutil.Daemon, error) {
	d, err := testutil.NewDaemon(flags...)
	if err != nil {
		return nil, err
	}
	if err := d.Start(); err != nil {
		return d, err
	}
	return d, d.LoadBusybox()
}

// ownEngine is a daemon for one test that will stop or kill it.
func ownEngine(t *testing.T, flags ...string) *testutil.Daemon {
	t.Helper()
	testutil.RequireRoot(t)
	d, err := newEngine(flags...)
	if d != nil {
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("the end of the daemon's log:\n%s", d.LogTail(60))
			}
			if err := d.Destroy(); err != nil {
				t.Errorf("the daemon left: %v", err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// docker runs the client against the shared daemon, wants success, and returns
// what it printed.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	return engine(t).MustDocker(t, args...)
}

// dockerFails wants the client to fail with the text in its message.
func dockerFails(t *testing.T, text string, args ...string) testutil.Result {
	t.Helper()
	return engine(t).DockerFails(t, []string{text}, args...)
}

var counter atomic.Int64

// unique is a name for a container, volume, network or image that no other test
// has.
func unique(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name()))
	return strings.Trim(name[:min(len(name), 40)], "-") + "-" + strconv.FormatInt(counter.Add(1), 10)
}

// background runs a container that is removed at the end of the test, and
// returns its name. args are options, image and command.
func background(t *testing.T, args ...string) string {
	t.Helper()
	return backgroundOn(t, engine(t), args...)
}

func backgroundOn(t *testing.T, d *testutil.Daemon, args ...string) string {
	t.Helper()
	name := unique(t)
	removeLater(t, d, name)
	d.MustDocker(t, append([]string{"run", "-d", "--name", name}, args...)...)
	return name
}

func removeLater(t *testing.T, d *testutil.Daemon, container string) {
	t.Helper()
	t.Cleanup(func() {
		if d.Running() {
			d.Docker("rm", "-fv", container) // a test may have removed it
		}
	})
}

// idle is a container that does nothing until it is stopped, at once.
func idle(t *testing.T, options ...string) string {
	t.Helper()
	return background(t, append(options, "busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")...)
}

// inspect is one field of `docker inspect`.
func inspect(t *testing.T, what, field string) string {
	t.Helper()
	return docker(t, "inspect", "-f", "{{"+field+"}}", what)
}

// run is `docker run --rm` and what it printed.
func run(t *testing.T, args ...string) string {
	t.Helper()
	return docker(t, append([]string{"run", "--rm"}, args...)...)
}

// lines are the words of each line, for output that has one item a line.
func lines(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}
