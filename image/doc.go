// Package image keeps the engine's images: it resolves what a user calls an
// image to a manifest, a configuration and a snapshot, and pulls, imports,
// loads, saves, commits, tags, lists and removes them.
//
// Everything durable lives in containerd's stores; this package adds no
// database of its own, only labels on what is there:
//
//	record <normalised name>                  names an image
//	record dangling@<digest>                  keeps an image that lost its last name
//	└── target: manifest or index
//	content <local manifest>                  an image made by commit; its digest is the public ID
//	    io.slipway.image.parent               public ID of the image it was committed on
//	    io.slipway.image.portable             digest of its portable manifest, once made
//	    containerd.io/gc.ref.content.*        config, layers in the store, portable manifest
//	content <portable manifest>               what save and push hand out
//	    io.slipway.image.local                digest of the local manifest (the public ID)
//	content <config>
//	    containerd.io/gc.ref.snapshot.<name>  the chain's top snapshot
//	layer <chain id>, a snapshot              if it was made late:
//	    io.slipway.layer.late                 how its archive is written (a format version)
//	    io.slipway.layer.digest, .size        of the archive, once known
//	    io.slipway.layer.usage                bytes on disk, once counted
//	lease slipway-image-*                     one operation that is writing
//
// A layer made late is a committed snapshot whose archive was never written: see
// docs/adr/0001-layers-made-late.md.
//
// What comes in (pull, load, import, and the unpacking of layers) is written while
// the pool has space beyond what it keeps for running containers: it is asked
// again every 64 MiB, and several times a second while a layer is unpacked, and
// the operation is undone when it refuses.
//
// Locks: keys "image/<public id>" and "name/<reference>" of one keylock, all of
// one operation taken in one call, held over record changes only and never over
// input or output that a client or registry controls. Commit's and pull's work
// is protected from garbage collection by leases, not by locks. Singleflight of
// unpacking is by chain ID ("chain/<id>"), taken with no other key held.
package image
