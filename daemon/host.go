package daemon

import (
	"crypto/rand"
	"fmt"

	"slipway/state"

	"github.com/containerd/errdefs"
)

// hostFacts are what `docker info` says about the machine.
type hostFacts struct {
	kernel, os, osVersion, arch string
	memory                      int64 // bytes
	forwarding                  bool
	security                    []string
	limits                      hostLimits
}

// hostLimits say which resources the kernel can limit.
type hostLimits struct {
	memory, swap, cpu, cpuset, pids, oomKillDisable bool
}

// engineID is the engine's own identity, made once for a data root.
func (d *Daemon) engineID() (string, error) {
	bucket, err := state.NewBucket[string](d.state, "engine")
	if err != nil {
		return "", err
	}
	id, err := bucket.Get("id")
	if !errdefs.IsNotFound(err) {
		return id, err
	}
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	id = fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	return id, bucket.Put("id", id)
}
