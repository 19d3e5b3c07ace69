// Package pipe listens on Windows named pipes and dials them. The engine's API,
// the job-object shim and the log keeper use it; on other systems it is empty.
//
// The work is go-winio's. What this package adds:
//
//   - A name can be taken once. Whoever made a pipe of that name before is an error
//     of [Listen] (go-winio creates the first instance, and never opens another's).
//   - A client can ask who serves ([DialChecked], [Trusted]): any process may
//     make a pipe of a name that is free, for example that of a shim that died. The
//     names beneath [Protected] are only for administrators and the system to make.
//   - Clients tell anonymously who they are, so that a false server cannot act
//     for them.
//   - Under Wine the first client of a pipe would hang, and a name could be taken
//     twice; [Listen] knows the ways round.
package pipe
