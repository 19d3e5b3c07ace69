package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // the server's own format for password_encryption=md5
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"slipway/database"

	"github.com/containerd/errdefs"
	"golang.org/x/text/unicode/norm"
)

const (
	scramIterations = 4096 // the server's default; clients pay it at every login
	scramSalt       = 16
	maxPassword     = 64 << 10
)

// quietSession keeps a statement that holds a password out of the server's log and of the extensions that
// record statements. A setting of an extension that is not loaded means nothing.
const quietSession = `SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';
SET log_duration = off; SET track_activities = off;
SET pg_stat_statements.track = 'none'; SET pgaudit.log = 'none'; SET auto_explain.log_min_duration = -1;
`

// SetPassword sets a role's password; an empty role is the one that the adapter logs in as. What is sent to the
// server is the verifier that it would store, so the password itself is not known to any of its logs. Only
// a password of which Unicode has several spellings is sent as it is, in a session that logs nothing, because the
// server's rules for choosing one depend on its version.
func (a *Adapter) SetPassword(ctx context.Context, g database.Guest, role, password string) error {
	if err := validPassword(password); err != nil {
		return err
	}
	l, _, err := a.connect(ctx, g, "SELECT 1;\n", probeTime)
	if err != nil {
		return err
	}
	return setPassword(ctx, g, l, role, password)
}

func setPassword(ctx context.Context, g database.Guest, l login, role, password string) error {
	if role == "" {
		role = l.role
	}
	sum := md5.Sum([]byte(password + role)) //nolint:gosec // the server's own format
	old, value := "md5"+hex.EncodeToString(sum[:]), password
	if oneSpelling(password) {
		var err error
		if value, err = scramVerifier(password); err != nil {
			return err
		}
	}
	alter := "ALTER ROLE " + ident(role) + " PASSWORD "
	script := quietSession + "SELECT current_setting('password_encryption') = 'md5' AS md5 \\gset\n" +
		"\\if :md5\n" + alter + literal(old) + ";\n\\else\n" + alter + literal(value) + ";\n\\endif\n"
	if _, err := psql(ctx, g, l, script, probeTime); err != nil {
		return fmt.Errorf("set the password of role %q: %w", role, withhold(err, password, value, old))
	}
	return nil
}

func validPassword(password string) error {
	switch {
	case password == "":
		return errdefs.ErrInvalidArgument.WithMessage("the password of a database must not be empty")
	case len(password) > maxPassword:
		return errdefs.ErrInvalidArgument.WithMessage("the password of a database is too long")
	case strings.ContainsRune(password, 0):
		return errdefs.ErrInvalidArgument.WithMessage("the password of a database must not contain a NUL character")
	}
	return nil
}

// withhold replaces an error in which the secret might stand; psql may quote the line that it could not read.
func withhold(err error, secrets ...string) error {
	text := err.Error()
	for _, s := range secrets {
		// A quoted line may hold only a part of it.
		if strings.Contains(text, s) || strings.Contains(text, "PASSWORD") || strings.Contains(text, "LINE ") {
			return errors.New("the server refused the statement (its message is withheld)")
		}
	}
	return err
}

// oneSpelling tells whether a password stays what it is under SASLprep (RFC 4013) in every version of its tables.
func oneSpelling(password string) bool {
	if !utf8.ValidString(password) {
		return true // SASLprep leaves it alone
	}
	for _, r := range password {
		if r >= 0x80 && (unicode.Is(unicode.Zs, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Variation_Selector, r) ||
			r == 0x034f || r == 0x1806 || r == unicode.ReplacementChar) {
			return false
		}
	}
	return norm.NFKC.IsNormalString(password)
}

// scramVerifier makes what the server stores for SCRAM-SHA-256 (RFC 5803).
func scramVerifier(password string) (string, error) {
	salt := make([]byte, scramSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return scramVerifierWith(password, salt, scramIterations)
}

func scramVerifierWith(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(message string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(message))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}
