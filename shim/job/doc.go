// Package job runs a container as a Windows job object: processes of the host in
// a pair of nested jobs, with a token that may do less than the engine's, an
// environment that points beneath the container's root, and limits.
//
// # The jobs
//
// The outer job has one setting, kill on close, and its only handle is in this
// process: when the shim dies, however it does, the container's processes die
// with it. The inner job is named ([Name]), has the limits and a completion port, and
// lets nothing break away. Every process is made suspended and within both, and
// runs only then, so that no child of it can be elsewhere.
//
// # The end
//
// A container ends with its first process, as everywhere with Docker. What it
// leaves behind is terminated, and the container has ended when the inner job is
// empty. The exit code is the first process's.
//
// # The root
//
// Plain Windows has no chroot. `C:\app` of the container is `app` beneath its
// root ([Inside]): for the working directory, for TEMP and USERPROFILE, and for
// the program, which may also be one of the host's. Whatever else a program opens is the host's, as far
// as its token may. The root's true path is in CONTAINER_ROOT, and %CONTAINER_ROOT% in
// arguments, environment and working directory is replaced by it.
//
// # Limits
//
// The kernel enforces what it can; memory and the number of processes are watched by
// a guard besides, which looks at the processes every [GuardInterval], because jobs do not count
// shared memory, and because some hosts accept a limit and do nothing. See [Limits].
//
// What the package cannot do is on Windows itself: the host's files, registry
// and network are shared. docs/windows.md says what a contained process can still see.
package job
