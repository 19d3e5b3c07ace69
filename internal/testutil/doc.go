// Package testutil is what tests share that drive a whole engine from outside:
// a daemon of their own, the docker client, images and a registry made on the
// spot, and eyes for what a container's processes really got.
//
// Nothing here needs the network: images are built from the machine's busybox,
// the registry runs in the test's process.
package testutil
