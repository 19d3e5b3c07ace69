// Package service is the containerd shim of the job-object container: the runtime's
// protocol, version 2 with the task service of version 3, served by ttrpc over a
// named pipe. One shim has one container.
//
// containerd runs the program with an action ([Main]). "start" starts the shim itself
// as a process of its own, outside of the daemon's job, and returns when its pipe accepts.
// "delete" cleans up after a shim that died. "serve" is the shim.
//
// What is not a containerd convention: the standard output and error of processes go to
// their pipes by package relay, so that no byte is lost with the log keeper's process; and the
// end of the connection of standard input is the input's end.
//
// Lock order: a service's mutex before a process's. No lock is held while a stream waits.
package service
