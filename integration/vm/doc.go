// Package vm tests on a kernel of its own what the kernel underneath cannot show:
// cgroup v2, AppArmor, and what is left after the power was cut. `make test-vm`
// makes what it needs (script/test-vm) and runs it; without that the tests are
// skipped.
//
// A machine is Debian's kernel in qemu, emulated in software. Its first disk is
// a read-only system image made of this machine's own files. Its second is
// /var, and is served by the test itself: what the guest has written and not
// flushed is only in the test's memory, and when the power is cut, part of it is
// lost, as in the cache of a real disk. Tests reach into the machine through
// package agent.
package vm
