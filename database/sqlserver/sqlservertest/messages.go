package sqlservertest

import "fmt"

// Message is an error or a notice of SQL Server. The numbers, severities and texts of the functions below are those of
// sys.messages, which Microsoft's page "Database Engine events and errors" lists; where another page shows one as
// it arrives (with its state), the function names that page.
type Message struct {
	Number   uint32
	Severity byte // below 11 a notice, from 20 on the server ends the connection
	State    byte
	Text     string
}

// LoginFailed is error 18456 as a client gets it: the page "MSSQLSERVER_18456" says that its state is always 1, so that a
// client learns nothing of the reason.
func LoginFailed(user string) Message {
	return Message{18456, 14, 1, fmt.Sprintf("Login failed for user '%s'.", user)}
}

// SingleUser is error 18461, the answer to a second connection of a server that runs in single-user mode.
func SingleUser(user string) Message {
	return Message{18461, 14, 1, fmt.Sprintf(
		"Login failed for user '%s'. Reason: Server is in single user mode. Only one administrator can connect at this time.", user)}
}

// UpgradeMode is error 18401, the answer while a server that was given system databases of another build runs its
// upgrade scripts.
func UpgradeMode(user string) Message {
	return Message{18401, 14, 1, fmt.Sprintf(
		"Login failed for user '%s'. Reason: Server is in script upgrade mode. Only administrator can connect at this time.", user)}
}

// NewerVersion is error 948 ("MSSQLSERVER_948"): the file was written by a newer server than this one.
func NewerVersion(database string, file, server int) Message {
	return Message{948, 20, 1, fmt.Sprintf("The database '%s' cannot be opened because it is version %d. "+
		"This server supports version %d and earlier. A downgrade path is not supported.", database, file, server)}
}

// CannotOpenNew is error 1813, which follows the error that says why.
func CannotOpenNew(database string) Message {
	return Message{1813, 16, 2, fmt.Sprintf("Could not open new database '%s'. CREATE DATABASE is aborted.", database)}
}

// CannotOpenFile is error 5120 ("MSSQLSERVER_5120").
func CannotOpenFile(path string, code int, text string) Message {
	return Message{5120, 16, 101, fmt.Sprintf("Unable to open the physical file \"%s\". Operating system error %d: \"%d(%s)\".", path, code, code, text)}
}

// DirectoryLookup is error 5133.
func DirectoryLookup(path string, code int, text string) Message {
	return Message{5133, 16, 1, fmt.Sprintf("Directory lookup for the file \"%s\" failed with the operating system error %d(%s).", path, code, text)}
}

// Exists is error 1801: a database of this name is there already.
func Exists(database string) Message {
	return Message{1801, 16, 3, fmt.Sprintf("Database '%s' already exists. Choose a different database name.", database)}
}

// InUse is error 3703, of sp_detach_db on a database that somebody uses.
func InUse(database string) Message {
	return Message{3703, 16, 2, fmt.Sprintf("Cannot detach the database '%s' because it is currently in use.", database)}
}

// NoMasterKey is error 15581: a database master key is not there or not open, as after an attach to another server.
func NoMasterKey() Message {
	return Message{15581, 16, 3, "Please create a master key in the database or open the master key in the session before performing this operation."}
}

// ServiceMasterKey is error 33094: what the service master key protects cannot be decrypted, since the key was made on another
// machine or for another account.
func ServiceMasterKey() Message {
	return Message{33094, 16, 8, "An error occurred during Service Master Key decryption"}
}

// Blocked is error 15281: the procedure belongs to a component that is turned off in the server's configuration.
func Blocked(procedure, component string) Message {
	return Message{15281, 16, 1, fmt.Sprintf("SQL Server blocked access to procedure '%s' of component '%s' because this component is turned off "+
		"as part of the security configuration for this server.", procedure, component)}
}

// NoCertificate is error 33111: the database is encrypted with a certificate that this server does not have.
func NoCertificate(thumbprint string) Message {
	return Message{33111, 16, 3, fmt.Sprintf("Cannot find server certificate with thumbprint '%s'.", thumbprint)}
}

// Notice is a message of severity 10, such as those that a successful attach prints.
func Notice(number uint32, text string) Message { return Message{number, 10, 1, text} }
