// Package sqlserver is the database adapter for SQL Server on Windows, version 2012 and later.
//
// It has not met a real SQL Server. It is written against Microsoft's documentation: each statement carries the title of the
// page that it follows ([Page]), and the tests play the statements, through the real client, against a double
// (database/sqlserver/sqlservertest) that holds them to the letter. docs/sqlserver.md lists them, and what
// remains to be seen on a real server.
//
// A SQL Server container is an instance of its own: it has its own name, registry keys, port and system databases
// ([Instance]), so databases of the same name in two containers have nothing to do with each other. master
// records where every file is, so the files of a clone, which lie beneath another root, are told to it before its
// first ordinary start ([Prepare]).
//
// The adapter speaks to the server in its own protocol, through a connection that the container's [database.Dialer]
// makes. It logs in by SQL Server authentication only: were it to use Windows authentication with a server that
// somebody else controls, that server would be handed a token of the engine's own account. What the server sends
// is limited in size and time and quoted before it goes anywhere.
//
// The package keeps no state and takes no locks.
package sqlserver
