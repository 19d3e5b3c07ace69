// Package sharedfile opens files that other processes may rename and remove while they are open. On Linux that is any
// file; on Windows only one that every process has opened so.
package sharedfile
