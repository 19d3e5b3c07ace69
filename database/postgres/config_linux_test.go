package postgres

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const oddConfig = `
# comment = 1
a.one = 1
a.two 'two words'   # comment
A.Three='it''s' # more
a.four = 'back\\slash \'quoted\' \t\101'
  a.five	=	bare_word-1.5/x:y
a.six = ''
a.seven = on# close
a.eight = 'not # a comment'
a.nine = 5min
a.one = again
`

// The server itself is asked what the same file means.
func TestParseConfigAsTheServer(t *testing.T) {
	c := newCluster(t)
	c.start(t)
	c.appendFile(t, "postgresql.conf", oddConfig)
	got := c.query(t, "postgres", `SELECT string_agg(name || '=' || setting, '|' ORDER BY seqno) FROM pg_file_settings WHERE name ILIKE 'a.%'`)
	var want []string
	for _, a := range parseConfig([]byte(oddConfig)) {
		want = append(want, a.name+"="+a.value)
	}
	if diff := cmp.Diff(strings.Split(strings.ReplaceAll(got, "A.Three", "a.three"), "|"), want); diff != "" {
		t.Error("(-server +parseConfig):", diff)
	}
}

func TestConfigLine(t *testing.T) {
	for _, value := range []string{"", "on", "it's", `back\slash`, "a\nb", `'';x='1`, "# x"} {
		got := parseConfig([]byte(configLine("n", value)))
		if diff := cmp.Diff([]assignment{{"n", value}}, got, cmp.AllowUnexported(assignment{})); diff != "" {
			t.Errorf("%q: %s", value, diff)
		}
	}
}

func TestParseArgs(t *testing.T) {
	got := parseArgs([]string{
		"docker-entrypoint.sh", "postgres", "-c", "archive_mode=on", "-cwal_level=logical", "--Archive-Command=a=b",
		"-D", "/data", "-c", "not a setting=1", "--help", "sh", "-c",
	})
	want := settings{"archive_mode": "on", "wal_level": "logical", "archive_command": "a=b", "-D": "/data"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHarmless(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"primary_conninfo", "host=a port=5 password=hunter2 user=u", "host=a port=5"},
		{"primary_conninfo", "password='x host=evil' host = 'b c' port='5'", "host=b c port=5"},
		{"primary_conninfo", `password='x\' host=evil' hostaddr=1.2.3.4`, "hostaddr=1.2.3.4"},
		{"primary_conninfo", "dbname=postgres://u:pw@h/x", ""},
		{"primary_conninfo", "postgresql://u:hunter2@h:1/db?password=x", "host=h:1"},
		{"primary_conninfo", "host='unterminated password=x", ""},
		{"archive_command", "TOKEN=hunter2 send %p", "…"},
		{"archive_command", "pgbackrest --pass=hunter2", "pgbackrest …"},
		{"synchronous_standby_names", "FIRST 1 (a, b)\x00\x1b", "FIRST 1 (a, b)"},
	} {
		if got := harmless(test.name, test.value); got != test.want {
			t.Errorf("%s %q: got %q, want %q", test.name, test.value, got, test.want)
		}
	}
}

func TestDataPaths(t *testing.T) {
	volumes := func(paths ...string) ocispec.ImageConfig {
		c := ocispec.ImageConfig{Volumes: map[string]struct{}{}}
		for _, p := range paths {
			c.Volumes[p] = struct{}{}
		}
		return c
	}
	for name, test := range map[string]struct {
		env  []string
		cfg  ocispec.ImageConfig
		want []string
	}{
		"default":     {nil, volumes(), []string{"/var/lib/postgresql/data"}},
		"official":    {[]string{"PGDATA=/var/lib/postgresql/data"}, volumes("/var/lib/postgresql/data"), []string{"/var/lib/postgresql/data"}},
		"official 18": {[]string{"PGDATA=/var/lib/postgresql/18/docker"}, volumes("/var/lib/postgresql"), []string{"/var/lib/postgresql", "/var/lib/postgresql/18/docker"}},
		"sub path":    {[]string{"PGDATA=/d/"}, volumes("/d/pg_wal", "/data", "/", "relative"), []string{"/d", "/d/pg_wal"}},
		"log":         {[]string{"PGDATA=/d", "POSTGRES_INITDB_WALDIR=/wal"}, volumes("/wal", "/dx"), []string{"/d", "/wal"}},
		"odd PGDATA":  {[]string{"PGDATA=../x"}, volumes(), []string{"/var/lib/postgresql/data"}},
	} {
		if diff := cmp.Diff(test.want, Engine{}.Adapter(test.env).DataPaths(test.cfg)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(oddConfig)
	f.Fuzz(func(t *testing.T, text string) {
		for _, a := range parseConfig([]byte(text)) {
			if a.name == "" || a.name != strings.ToLower(a.name) && !strings.ContainsFunc(a.name, func(r rune) bool { return r >= 0x80 }) {
				t.Errorf("name %q", a.name)
			}
		}
	})
}

func FuzzSmallParsers(f *testing.F) {
	f.Add([]byte("1\n/data\n0\n5432\n/run\n*\n"))
	f.Add([]byte("\x17\x27\x59\x00\x02\x00\x00\x00\xd4\x17\x00\x00\x01\x00\x00\x00"))
	f.Add([]byte(`host='a\`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = parsePidFile(data).host()
		_, _ = relmapFile(data, oidOfSubscription)
		if got := connTarget(string(data)); len(got) > len(data)+20 {
			t.Errorf("%q became %q", data, got)
		}
		for _, s := range []string{clean(string(data), 10), clip(data)} {
			if strings.ContainsAny(s, "\n\x00\x1b") {
				t.Errorf("control characters in %q", s)
			}
		}
		_ = splitList(string(data))
	})
}
