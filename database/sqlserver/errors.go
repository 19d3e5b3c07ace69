package sqlserver

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	mssql "github.com/microsoft/go-mssqldb"
)

// advice is what an error of SQL Server means to a user: its class and what can be done.
type advice struct {
	number int32
	class  error
	says   string
}

// advices are in the order of what matters more: SQL Server reports an attach that failed as two errors, of which one says why.
var advices = []advice{
	{948, errdefs.ErrFailedPrecondition, "the files were written by a newer SQL Server than this one, which cannot open them; " +
		"use an image of that version or a later one (a database cannot go back to an older version)"},
	{33111, errdefs.ErrFailedPrecondition, "the database is encrypted (TDE) with a certificate that this server does not have; " +
		"restore the certificate with its private key into master first (CREATE CERTIFICATE … FROM FILE)"},
	{15581, errdefs.ErrFailedPrecondition, "a database master key is needed and is not open: it is protected by the service master key of the server that the " +
		"database came from; open it with its password and protect it with this server's key " +
		"(OPEN MASTER KEY DECRYPTION BY PASSWORD = '…'; ALTER MASTER KEY ADD ENCRYPTION BY SERVICE MASTER KEY)"},
	{33094, errdefs.ErrFailedPrecondition, serviceKeyAdvice},
	{33095, errdefs.ErrFailedPrecondition, serviceKeyAdvice},
	{5120, errdefs.ErrFailedPrecondition, "a file cannot be opened; it has to lie in the container, the container's account needs full control of it, and nobody else may have it open"},
	{5133, errdefs.ErrInvalidArgument, "the directory of a file cannot be found from within the container"},
	{5171, errdefs.ErrInvalidArgument, "the first file is not the primary file (.mdf) of a database"},
	{5172, errdefs.ErrInvalidArgument, "a file is not a database file, or it is damaged"},
	{5173, errdefs.ErrInvalidArgument, "the files do not belong together"},
	{1824, errdefs.ErrFailedPrecondition, "the database was being restored and cannot be attached; finish the restore where it came from"},
	{1827, errdefs.ErrFailedPrecondition, "the database is larger than this edition of SQL Server takes"},
	{1801, errdefs.ErrAlreadyExists, "a database of this name is attached already in this container"},
	{1813, errdefs.ErrFailedPrecondition, "the database cannot be opened"},
	{1802, errdefs.ErrFailedPrecondition, "the database cannot be made"},
	{3703, errdefs.ErrConflict, "the database is in use"},
	{3702, errdefs.ErrConflict, "the database is in use"},
	{15010, errdefs.ErrNotFound, "there is no such database in this container"},
	{911, errdefs.ErrNotFound, "there is no such database in this container"},
	{18461, errdefs.ErrUnavailable, "the server runs in single-user mode and has its one user"},
	{18401, errdefs.ErrUnavailable, "the server upgrades its system databases"},
	{922, errdefs.ErrUnavailable, "the database is being recovered"},
	{6005, errdefs.ErrUnavailable, "the server is stopping"},
	{17187, errdefs.ErrUnavailable, "the server starts and does not take logins yet"},
	{17142, errdefs.ErrUnavailable, "the server is paused"},
	{18456, errdefs.ErrPermissionDenied, "SQL Server does not accept the login; give the container the password that its data has (MSSQL_SA_PASSWORD), " +
		"and enable SQL Server authentication and the login sa; the container's error log says which of the reasons it is"},
	{18470, errdefs.ErrPermissionDenied, "the login is disabled"},
	{18452, errdefs.ErrPermissionDenied, "the server takes Windows authentication only; enable SQL Server authentication"},
	{15247, errdefs.ErrPermissionDenied, "the login needs the server role sysadmin"},
	{262, errdefs.ErrPermissionDenied, "the login needs the server role sysadmin"},
}

const serviceKeyAdvice = "the service master key belongs to another machine or account, so what it protects (passwords of linked servers, credentials, database " +
	"master keys) cannot be read here; restore it (RESTORE SERVICE MASTER KEY FROM FILE), or, if those secrets may be lost, make a new one " +
	"(ALTER SERVICE MASTER KEY FORCE REGENERATE)"

// certificateAdvice is for servers up to 2017, of which about every other start makes a certificate that Go refuses to read unless
// the program was built with x509negativeserial=1 (issue 755 of microsoft/go-sqlcmd).
const certificateAdvice = "; this server makes such a certificate at about every other start: start the container again, or give SQL Server a certificate of your own"

// Explain gives an error of the client its class of errdefs and a sentence that says what to do. Text of the server is cleaned. An error
// that it does not know becomes one of the class Unknown if the server said it, and of the class Unavailable if the
// connection failed. It is nil for nil.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	var m mssql.Error
	if !errors.As(err, &m) {
		text := "SQL Server: " + clean(err.Error())
		if strings.Contains(text, "negative serial number") {
			text += certificateAdvice
		}
		return &explained{text: text, class: errdefs.ErrUnavailable, cause: err}
	}
	all := m.All
	if len(all) == 0 {
		all = []mssql.Error{m}
	}
	for _, a := range advices {
		for _, e := range all {
			if e.Number == a.number {
				return &explained{text: a.says + " (" + describe(e) + ")", class: a.class, cause: err}
			}
		}
	}
	return &explained{text: "SQL Server: " + describe(m), class: errdefs.ErrUnknown, cause: err}
}

// explained is an error with words of its own, which are safe to show, a class, and the client's error as its cause.
type explained struct {
	text         string
	class, cause error
}

func (e *explained) Error() string   { return e.text }
func (e *explained) Unwrap() []error { return []error{e.class, e.cause} }

// describe is the server's own words, with what one needs to look them up.
func describe(e mssql.Error) string {
	return fmt.Sprintf("error %d, severity %d, state %d: %s", e.Number, e.Class, e.State, clean(e.Message))
}

// has tells whether one of the errors in err has the number.
func has(err error, number int32) bool {
	var m mssql.Error
	if !errors.As(err, &m) {
		return false
	}
	if m.Number == number {
		return true
	}
	for _, e := range m.All {
		if e.Number == number {
			return true
		}
	}
	return false
}
