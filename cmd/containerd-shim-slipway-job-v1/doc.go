// Command containerd-shim-slipway-job-v1 is the containerd shim of the job-object
// container. containerd starts it, on Windows; see package slipway/shim/job/service.
package main
