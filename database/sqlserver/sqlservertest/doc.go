// Package sqlservertest is a double of SQL Server for tests: it speaks enough of the Tabular Data Stream protocol
// ([MS-TDS], version 7.4) that the real client (github.com/microsoft/go-mssqldb) negotiates TLS, logs in and runs
// statements over TCP.
//
// It is no database. A test gives it a script: the statements that it expects, in order, each with the title of the page of
// Microsoft's documentation that the statement follows, and what it answers: rows, messages and errors with the number,
// severity and state that SQL Server gives them ([Message]). A statement that is not the next one of the script fails the
// test, and so does a statement that was expected and never came. What a real server would answer is therefore the
// test's claim; a page of the documentation is its only witness.
//
// What it implements of the protocol: PRELOGIN with encryption for everything or for the login alone, LOGIN7 with
// SQL Server authentication, SQLBatch, RPC of sp_executesql with character and integer parameters, the tokens LOGINACK,
// ENVCHANGE, INFO, ERROR, COLMETADATA, ROW, RETURNSTATUS, DONE and DONEPROC, and Attention. Anything else ends the connection
// and fails the test.
//
// A [Server] may be used by several connections at once; they consume one script.
package sqlservertest
