// Package clonefstest is the conformance suite of package clonefs. It runs the
// same tests of cloning on every file system that it is given: real ones, on
// loop devices of the test's own.
package clonefstest
