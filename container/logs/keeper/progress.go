package keeper

// mark is how far a container's output has come, at one moment.
type mark struct {
	inode   uint64   // of the log file
	size    int64    // of the log file
	logged  [2]int64 // positions up to which the streams are in it
	ended   bool
	dropped int64 // lines that the log file could not take
}
