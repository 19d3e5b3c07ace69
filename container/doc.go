// Package container keeps the engine's containers: their records, their state
// machine, and the operations on them, one file each.
//
// A container's [Record] is immutable. A change makes a new one, writes it to
// the store and publishes it, so that reading (ps, inspect) takes no lock.
//
// # Locks
//
// In this order; a lock further down is never held while one above is taken.
//
//  1. Manager.locks, keyed by container id: transitions (start, stop, rm,
//     commit, ...) hold a container's lock exclusively, for the change of state
//     and not while they wait for a process to end or for a client.
//  2. Manager.mu guards the maps of containers and execs.
//  3. container.mu makes a change of the record one step with its storing.
//
// Interrupts (kill, resize) and reads take none of them. The end of a process
// is handled as a transition by the goroutine that supervises the run.
//
// # On disk
//
//	<data-root>/containers/<id>/
//	├── <id>-json.log*    output, written by the log keeper
//	├── hostname          bind-mounted over /etc/hostname
//	├── hosts             bind-mounted over /etc/hosts
//	├── resolv.conf       bind-mounted over /etc/resolv.conf
//	└── resolv.conf.hash  of what the engine wrote there; else it was edited
//	<exec-root>/rootfs/<id>     the mounted root of a running container
//	<exec-root>/io/<id>/        FIFOs of the main process, and the name of its run
//	<exec-root>/views/<id>-*    a stopped container's files, while they are copied
package container
