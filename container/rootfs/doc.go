// Package rootfs works on the files of a container from outside: cp both ways, stat, diff, the files
// that a database adapter reads and writes, and the user database.
//
// Whatever is in a container's root is the container's: a path component can be a symbolic link to the
// host's /etc at one moment and a folder at the next. So every path is resolved by the kernel beneath
// the root (openat2 with RESOLVE_IN_ROOT), work goes on with the descriptors that this gives, single
// names are used in a folder's descriptor without following them, and no program, library or name
// service of the container is loaded. A file's type is known before it is opened for more than looking:
// opening a FIFO could wait for ever, and a device could do anything.
//
// For a container that runs, OpenProcess enters the view of its first process, with its volumes. For one
// that does not, the caller mounts its root and volumes and gives the folder to Open.
//
// Nothing here takes locks; a Root is safe for concurrent use.
package rootfs
