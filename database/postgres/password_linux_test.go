package postgres

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

var oddPasswords = map[string]string{
	"plain":          "correct horse",
	"quotes":         `it's "quoted" ''twice''`,
	"backslashes":    `\ \\ \' \n end\`,
	"dollars":        `$$; DROP ROLE x; $$ $1 $body$`,
	"psql":           "a\\q :var :'var' :\"var\" \\echo `id`",
	"lines":          "one\ntwo\r\n\\q\nthree\t",
	"comment":        `-- /* ; */ #`,
	"unicode":        "pässwörd-пароль-密码",
	"emoji":          "🔑🐘",
	"decomposed":     "e\u0301clair \ufb01 ½",
	"spaces":         "a\u00a0b\u3000c\u200bd",
	"soft hyphen":    "a\u00adb",
	"invalid":        "\xff\xfe bytes",
	"controls":       "\x01\x02\x7f",
	"like verifier":  "SCRAM-SHA-256$oops",
	"like md5":       "md5 is not a hash",
	"long":           strings.Repeat("long ", 100),
	"leading spaces": "  x  ",
}

func TestSetPassword(t *testing.T) {
	c := newCluster(t)
	if err := os.WriteFile(c.data+"/pg_hba.conf", []byte("local all all trust\nhost all all all scram-sha-256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(t, "-c", "log_statement=all", "-c", "log_min_duration_statement=0", "-c", "log_min_error_statement=debug5")
	a, admin := c.adapter(), c.guest()
	roles := map[string]string{"plain": "app", "quotes": `o'brien "x"`, "dashes": "-U x", "conn": "host=evil dbname=x", "unicode": "rölé", "upper": "App"}
	var script strings.Builder
	for _, r := range roles {
		script.WriteString("CREATE ROLE " + ident(r) + " LOGIN;\n")
	}
	if _, _, err := a.connect(t.Context(), admin, script.String(), probeTime); err != nil {
		t.Fatal(err)
	}
	set := func(t *testing.T, role, password string) {
		t.Helper()
		g := c.guest()
		if err := a.SetPassword(t.Context(), g, role, password); err != nil {
			t.Fatal(err)
		}
		if len(password) > 3 && strings.Contains(g.everything(), password) {
			t.Error("the password is in an argument or a variable")
		}
		conn, err := c.connect(t, role, password, "postgres")
		if err != nil {
			t.Fatalf("cannot log in: %v", err)
		}
		conn.Close(t.Context())
		if conn, err := c.connect(t, role, password+"x", "postgres"); err == nil {
			conn.Close(t.Context())
			t.Error("another password is good as well")
		}
	}
	for name, password := range oddPasswords {
		t.Run(name, func(t *testing.T) {
			// The Go driver and the server prepare these differently; the server's own library is the judge.
			if name == "decomposed" || name == "spaces" || name == "soft hyphen" || name == "invalid" || name == "controls" {
				setAndAsk(t, c, "app", password)
				return
			}
			set(t, "app", password)
		})
	}
	for name, role := range roles {
		t.Run("role "+name, func(t *testing.T) { set(t, role, "some password") })
	}
	t.Run("md5", func(t *testing.T) {
		c.local(t, "ALTER SYSTEM SET password_encryption = 'md5'; SELECT pg_reload_conf()")
		defer c.local(t, "ALTER SYSTEM RESET password_encryption; SELECT pg_reload_conf()")
		if err := a.SetPassword(t.Context(), c.guest(), `o'brien "x"`, `it's`); err != nil {
			t.Fatal(err)
		}
		if got := c.local(t, `SELECT rolpassword = 'md5' || md5('it''s' || rolname) FROM pg_authid WHERE rolname LIKE 'o''brien%'`); got != "t" {
			t.Errorf("verifier matches: %q", got)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for _, password := range []string{"", "a\x00b", strings.Repeat("x", maxPassword+1)} {
			if err := a.SetPassword(t.Context(), c.guest(), "app", password); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%.10q: %v, want invalid argument", password, err)
			}
		}
		err := a.SetPassword(t.Context(), c.guest(), "no such role", "e\u0301 top secret")
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "no such role") {
			t.Errorf("unknown role: %v", err)
		}
	})
	log := c.logText(t)
	for name, password := range oddPasswords {
		if strings.Contains(log, password) {
			t.Errorf("%s: the password is in the server's log", name)
		}
	}
	if strings.Contains(log, "top secret") || strings.Contains(log, "SCRAM-SHA-256$4096") {
		t.Error("a password or a verifier is in the server's log")
	}
}

// setAndAsk sets a password and lets psql log in with it.
func setAndAsk(t *testing.T, c *cluster, role, password string) {
	t.Helper()
	if err := c.adapter().SetPassword(t.Context(), c.guest(), role, password); err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		password string
		works    bool
	}{{password, true}, {password + "x", false}} {
		cmd := c.command(t.Context(), "psql", "-Xwqc", "select 1", "-h", "127.0.0.1", "-p", c.port, "-U", role, "postgres")
		cmd.Env = append(os.Environ(), "PGPASSWORD="+try.password)
		if out, err := cmd.CombinedOutput(); (err == nil) != try.works {
			t.Errorf("log in with %q: %v %s", try.password, err, out)
		}
	}
}

// local runs SQL through the local socket, where no password is asked for.
func (c *cluster) local(t *testing.T, sql string) string {
	t.Helper()
	_, out, err := c.adapter().connect(t.Context(), c.guest(), sql+"\n", probeTime)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// The example of RFC 7677 gives the keys; the stored form is the server's.
func TestScramVerifier(t *testing.T) {
	salt := []byte{0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81}
	got, err := scramVerifierWith("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
