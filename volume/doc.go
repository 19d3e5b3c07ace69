// Package volume keeps Docker's volumes and the rules of binds.
//
// A volume is a directory in the pool that containers mount. [Plan] turns what a
// request, its image and the containers of --volumes-from say about mounts into
// one list; [Manager.Attach] makes the volumes of that list and fills new ones
// from the image; [Manager.Mount] and [Manager.Unmount] give them to a container
// that starts and stops. Which containers use a volume is known from the
// containers' own records, given to [Manager.Restore], and kept nowhere else.
//
// # Filling from the image
//
// As in Docker, an empty volume that is mounted over a directory of the image
// gets that directory's content, owner and mode. For a data image this must not
// cost the database's size:
//
//   - An anonymous volume becomes an overlay: a snapshot prepared on the image's
//     layers is mounted at the volume's "layer", and its sub path bind-mounted at
//     "_data". The snapshot holds its parent, so the image may be removed.
//   - A named volume gets reflinks of the image's files, or copies where the file
//     system has no reflinks.
//
// Every other volume is filled like a named one, except that the directory of one
// that its options mount, or that a running container has, cannot be replaced:
// the copy is made in a directory inside of it and its entries are moved up.
//
// A volume is filled wholly or not at all, whatever happens meanwhile, and a copy
// of a database counts as one until a database has had its first start with it.
// So what is on its way is recorded first (record.Filling, record.Copy) and
// settled by whoever comes next: [Manager.Restore], [Manager.Populate] or
// [Manager.Mount].
//
// # Windows
//
// There are no mounts: a volume is its directory, which the engine places beneath
// the container's root, and read-only mounts, tmpfs and volumes of mount options are
// refused. A volume of a data image is filled by moving the files out of the new
// container's own copy of the image, where the volume hides them, so that a database
// is copied once.
//
// # On disk
//
//	<Root>/
//	  <name>/
//	    _data/         what containers see; the mount point of options and overlays
//	    layer/         the mount point of an overlay's snapshot
//	    .filling/      content on its way to _data; left-overs are removed
//	    _data/.slipway-filling/   the same where _data cannot be replaced
//	  .removed-<hash of the name>-<random>/   a volume being deleted
//	<RunDir>/
//	  <container>/<n>  bind mounts of a volume's sub path
//	  view-<random>    an image's layers, while a volume is filled from them
//	slipway.db, bucket "volumes": one record a volume, by name
//
// A volume exists when its record does. A directory without record is an
// unfinished create, or, if it has data, a volume whose record was lost: it gets
// a new one. The snapshot of an overlay has labels by which Restore makes its
// record again. A volume whose record cannot be read nor made again keeps its
// directory and snapshot until somebody removes it by its name; nothing else can
// be done with it.
//
// # Locks
//
// Every change of a volume holds the keyed lock of its name; nothing is called
// under two names at once. The Manager's mutex guards the maps, is taken last
// and is never held over I/O.
package volume
