// Package logs is the daemon's side of containers' output: it talks to the log keeper, the process
// that reads what containers print (package keeper), and reads the json-file logs that the keeper
// writes.
//
// The order of one run: MakeFIFOs, Keeper.Register, Keeper.Attach for a client that wants everything,
// then the task is created on the FIFOs (on Windows named pipes) and started; after its exit Keeper.Finish, and Keeper.Unregister
// when the container is removed.
//
// Keeper.mu guards the map of registered runs and is never held over a request.
package logs
