// Package dirs keeps image layers and containers' files as plain directories, for
// systems without overlayfs: a containerd snapshotter, and the differ that goes
// with it.
//
// A snapshot is a whole tree: [Snapshotter.Prepare] copies the parent's. How it is
// copied is the business of a back end (see [slipway/internal/treecopy]): copying
// everywhere, sharing blocks on ReFS. Mounts returns one mount of type "bind" whose
// source is the directory; nothing need be mounted, the directory is used where it
// is. A view of a snapshot is the snapshot's own directory.
//
// The layers' archives are those of Windows' containers, as other tools read them:
// the file system is beneath "Files/", and what was deleted is a file ".wh.<name>",
// as in OCI's layers.
//
// # On disk
//
//	<root>/
//	  metadata.db             containerd's records of snapshots
//	  snapshots/
//	    <id>/fs/              the tree of a snapshot
//	    new-<random>/fs/      one that is being made
//	    rm-<id>/              one that is being deleted
//
// A directory gets its <id> in the transaction that records it, when it is complete.
// So what a crash leaves has no record: New removes all of it, [Snapshotter.Cleanup]
// what cannot belong to an operation that is under way.
//
// # Locks
//
// No transaction is open while files are copied or counted. The Snapshotter's lock
// is held, shared, while a directory gets its name or loses it, and by Cleanup alone.
package dirs
