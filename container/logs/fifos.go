package logs

// FIFOs are the paths of a container's streams; on Windows the names of pipes. Stdin is empty if it is closed, Stderr if
// the container has a terminal.
type FIFOs struct{ Stdin, Stdout, Stderr string }
