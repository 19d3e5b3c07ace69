package clonefs_test

import (
	"testing"

	"slipway/clonefs/clonefstest"
)

func TestConformance(t *testing.T) {
	for _, fs := range clonefstest.FileSystems() {
		t.Run(fs.Name, func(t *testing.T) { clonefstest.TestCloning(t, fs) })
	}
}
