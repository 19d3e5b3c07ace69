// Package integration tests the whole engine from outside: a real daemon with
// real clients, as root. Tests look at what an option did to the container's
// processes, files and packets, not at the exit code of the command.
//
// Most tests share one daemon and run side by side. Those whose name begins with
// TestFault kill, stop or restart a daemon of their own.
//
//	make test-integration             all
//	make test-integration RUN=Volume  some
package integration
