package logs

import "os"

// inode returns 0: os.SameFile tells files apart.
func inode(os.FileInfo) uint64 { return 0 }
