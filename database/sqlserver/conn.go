package sqlserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
)

const (
	// appName is how a session of the engine is called in the server's views; a server that is being prepared takes no
	// other ([Prepare]).
	appName = "slipway"
	// receiveLimit is the most bytes that one connection takes from a server.
	receiveLimit = 64 << 20
	// rowLimit is the most rows of one answer: a server has at most 32,767 databases ("Maximum capacity specifications").
	rowLimit = 32767
)

// Login is how a server is reached.
type Login struct {
	// Dial connects to the server's TCP port.
	Dial func(ctx context.Context) (net.Conn, error)
	// User is a login of the server's own with the role sysadmin, such as sa.
	User string
	// Password of the login.
	Password string
	// Integrated logs in by Windows authentication as the account of this process, which gives the server a token of that account: only for
	// a server that this process has started itself, from binaries that it trusts, and never for a container. User and Password
	// must be empty.
	Integrated bool
}

// Server is one session of a server. It is for one goroutine at a time.
type Server struct {
	db   *sql.DB
	conn *sql.Conn
}

// Connect logs in. All traffic is encrypted; the server's certificate is not checked, since a server without one makes its own,
// and Dial is what says whose server it is. Errors have the classes that [Explain] gives them; while nothing
// listens, or a login cannot be taken yet, that is errdefs.ErrUnavailable. The context bounds connecting only.
func Connect(ctx context.Context, l Login) (*Server, error) {
	if l.Integrated && (runtime.GOOS != "windows" || l.User != "" || l.Password != "") {
		return nil, errdefs.ErrNotImplemented.WithMessage("Windows authentication is for the account of this process, on Windows")
	}
	// An empty name, or one of a domain, would make the client use Windows authentication.
	if !l.Integrated && (l.User == "" || strings.ContainsAny(l.User, `\@`)) {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"%q is no login of SQL Server authentication, which is the only kind that is used with a container", l.User))
	}
	cfg, err := msdsn.Parse("server=127.0.0.1;port=1433;encrypt=true;trustservercertificate=true;disableretry=true;protocol=tcp;app name=" + appName)
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Password = l.User, l.Password
	connector := mssql.NewConnectorConfig(cfg)
	connector.Dialer = dialer(l.Dial)
	db := sql.OpenDB(connector)
	conn, err := db.Conn(ctx)
	if err != nil {
		err = Explain(err)
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", errdefs.ErrUnavailable, context.Cause(ctx))
		}
		return nil, errors.Join(err, db.Close())
	}
	return &Server{db: db, conn: conn}, nil
}

// Close ends the session.
func (s *Server) Close() error { return errors.Join(s.conn.Close(), s.db.Close()) }

// dialer ignores addresses: wherever a server wants to send its client, the client stays with the container.
type dialer func(ctx context.Context) (net.Conn, error)

func (d dialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := d(ctx)
	if err != nil {
		return nil, err
	}
	return &limitedConn{Conn: conn, left: receiveLimit}, nil
}

// limitedConn ends after a number of received bytes.
type limitedConn struct {
	net.Conn
	left int64
}

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// exec runs a statement whose rows, if it gives any, do not matter.
func (s *Server) exec(ctx context.Context, st statement) error {
	_, err := s.conn.ExecContext(ctx, st.text, st.args...)
	return failure(ctx, err)
}

// rows runs a statement and gives each row to scan.
func (s *Server) rows(ctx context.Context, st statement, scan func(*sql.Rows) error) error {
	rows, err := s.conn.QueryContext(ctx, st.text, st.args...)
	if err != nil {
		return failure(ctx, err)
	}
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if n == rowLimit {
			return errors.New("SQL Server gave more rows than it can have")
		}
		if err := scan(rows); err != nil {
			return failure(ctx, err)
		}
	}
	return failure(ctx, rows.Err())
}

// names runs a statement that gives one column of text.
func (s *Server) names(ctx context.Context, st statement) ([]string, error) {
	var out []string
	err := s.rows(ctx, st, func(r *sql.Rows) error {
		var name string
		err := r.Scan(&name)
		out = append(out, name)
		return err
	})
	return out, err
}

// failure gives an error of the client its class; one that comes of the context's end says why that ended.
func failure(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", errdefs.ErrUnavailable, context.Cause(ctx))
	}
	return Explain(err)
}

// retryPause is the time between two tries to log in to a server that is starting.
const retryPause = 200 * time.Millisecond

// connectWhenUp logs in as soon as the server takes logins, for as long as the context allows.
func connectWhenUp(ctx context.Context, l Login) (*Server, error) {
	for {
		s, err := Connect(ctx, l)
		if err == nil || !errdefs.IsUnavailable(err) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(retryPause):
		}
	}
}
