// Package keeper is the log keeper: the process that reads what containers print.
//
// One keeper runs for each daemon and outlives it. Every container's main process prints into
// FIFOs; the keeper reads them, writes the json-file log and feeds attached clients. The shim holds
// both ends of the FIFOs, so a keeper may die and another may take over: nothing is lost.
//
// # Exactly once
//
// A stream's bytes move by splice(2) from the FIFO to the end of a spool file in the exec root (a
// tmpfs). The kernel takes from the FIFO what it has added to the file, so the spool's size is the
// number of bytes read, whenever the keeper is killed. Lines are cut from the spool into the log;
// a small mapped file tells how far, and after a kill in between the log itself tells the rest
// (see container.rollForward). Attached clients are fed from the spool too: it is their buffer, and a
// client can resume at a position after the keeper was replaced. What everybody has is given back
// by punching holes.
//
// On Windows the keeper listens on the pipes that the shim prints into, and these die with it. So the shim keeps what it
// has sent until the keeper says that it is in the spool (package relay); the rest is the same. A spool is a sequence
// of files there, given back one by one, and the progress an ordinary file.
//
//	<exec-root>/
//	  logger.sock          requests (package wire), mode 0600; a pipe on Windows
//	  logger.pid           pid; flock'ed by the running keeper
//	  logger/<id>/
//	    run                the run that the files belong to
//	    progress           mapped: how far the spools are in the log (see progress)
//	    stdout, stderr     spools: file offset = position in the stream; stdout.<position> … on Windows
//
// # End of output
//
// The keeper opens only the reading end. poll(2) reports a hang-up only if a writer has been there
// since, so a stream ends when its last writer has left and not before the first has come. A writer
// that came and went while no keeper was there leaves no hang-up: Finish, sent by the daemon when the
// task has exited, makes "no writer" the end. A pipe's end is that of the shim's connection; Finish ends one that
// nobody has connected to, after a moment if the run is an earlier keeper's, whose sender may be looking for this one.
//
// # Locks
//
// Server.ids (by container id, held over opening and closing its files) before Server.mu (the map)
// before container.mu (streams, log, attachments of one container). container.mu is held over writes
// to the container's own log but never over a client's connection. No lock covers two containers.
package keeper
